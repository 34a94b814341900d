-- What a running attempt reports. ARGV: id, token, percent (empty: it only asks), message.
-- Returns 1, 2 (cancellation is asked for) or 0 (fenced off).
local key = op_key(ARGV[1])
local f = redis.call('HMGET', key, 'st', 'tok', 'cn', 'pct', 'msg')
if f[1] ~= RUNNING or f[2] ~= ARGV[2] then return 0 end
if ARGV[3] ~= '' and (f[4] ~= ARGV[3] or f[5] ~= ARGV[4]) then
  redis.call('HSET', key, 'pct', ARGV[3], 'msg', ARGV[4])
  emit('progressed', ARGV[1], {'pct', ARGV[3], 'msg', ARGV[4]})
end
return (f[3] == '1') and 2 or 1
