"""What has been judged or compiled before: Redis, and memory when Redis is away."""
