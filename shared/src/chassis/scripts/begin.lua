-- Count the attempt and let it run. ARGV: id, delivery, worker, fencing token, span id (hex), lease (µs).
-- Returns {'run', attempt, span id of the attempt before} or {'gone', why}.
-- Again with the same token it answers the same: the first answer may not have arrived.
local id, delivery, worker, token, span, lease = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], tonumber(ARGV[6])
local f = redis.call('HMGET', op_key(id), 'st', 'dv', 'xt', 'psp', 'at', 'ret', 'tok')
if not f[1] then return {'gone', 'deleted'} end
if f[1] == RUNNING and f[7] == token then return {'run', tonumber(f[5]), f[4] or ''} end
if f[1] ~= QUEUED then return {'gone', 'state ' .. f[1]} end
if f[2] ~= delivery then return {'gone', 'delivered to another worker'} end
if f[3] ~= '0' then
  if now >= tonumber(f[3]) then
    expire(id)
    return {'gone', 'expired'}
  end
  redis.call('ZREM', P .. 'expiring', id)
end
local attempt = tonumber(f[5] or '0') + 1
run(id, attempt, delivery, worker, token, span, lease, f[6])
emit('began', id, {'sp', span, 'psp', f[4] or ''})
return {'run', attempt, f[4] or ''}
