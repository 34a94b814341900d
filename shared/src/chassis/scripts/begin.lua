-- Count the attempt and let it run. ARGV: id, delivery, worker, fencing token, span id (hex), lease (µs).
-- Returns {'run', attempt, span id of the attempt before, max attempts} or {'gone', why}.
-- Again with the same token it answers the same: the first answer may not have arrived.
local id, delivery, worker, token, span, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local key = op_key(id)
local f = redis.call('HMGET', key, 'st', 'dv', 'xt', 'max', 'psp', 'start', 'tok', 'at')
if not f[1] then return {'gone', 'deleted'} end
if f[1] == RUNNING and f[7] == token then return {'run', tonumber(f[8]), f[5] or '', tonumber(f[4])} end
if f[1] ~= QUEUED then return {'gone', 'state ' .. f[1]} end
if f[2] ~= delivery then return {'gone', 'delivered to another worker'} end
if f[3] ~= '0' and now >= tonumber(f[3]) then
  expire(id)
  return {'gone', 'expired'}
end
local attempt = redis.call('HINCRBY', key, 'at', 1)
redis.call('HSET', key, 'st', RUNNING, 'tok', token, 'w', worker, 'sp', span, 'bt', now, 'dl', 0,
  'a' .. attempt, string.format('%.0f', now) .. '|' .. span .. '|' .. worker)
redis.call('HDEL', key, 'a' .. attempt .. 'z', 'a' .. attempt .. 'e', 'a' .. attempt .. 'c')
if not f[6] then redis.call('HSET', key, 'start', now) end
redis.call('ZREM', P .. 'expiring', id)
redis.call('ZADD', P .. 'leases', now + lease, id)
emit('began', id, {'sp', span, 'psp', f[5] or ''})
return {'run', attempt, f[5] or '', tonumber(f[4])}
