-- Forget ended operations that are past their time: retention, or the tail where the archive has them.
-- ARGV: limit. Returns how many.
return forget_past(ARGV[1])
