"""The waybill command: starts the stack and follows the work in it."""
