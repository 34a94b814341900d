"""A Celery code base half-way to Waybill: plain tasks and an operation in one service, on one worker."""
