"""Pooled containers that run untrusted code. Knows neither Kafka nor Redis."""
