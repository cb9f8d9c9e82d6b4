"""evalx judges code submissions from a Kafka stream."""

__version__ = "0.1.0"
