-- One small write of what processes say of themselves and of queues, however full the store is.
-- ARGV: command, key after the prefix, arguments. Returns the command's answer.
return redis.call(ARGV[1], P .. ARGV[2], unpack(ARGV, 3))
