"""The Faust app: intake -> lanes -> engine -> publish -> store -> ack, and dead letters."""
