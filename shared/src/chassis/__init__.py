"""The chassis: durable operations, and the Celery workers and gRPC gateways around them."""
