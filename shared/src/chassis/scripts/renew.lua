-- Renew the leases that a worker holds. ARGV: lease (µs), then id and delivery of each.
-- Returns per operation 1 (renewed), 2 (renewed; a client asks for cancellation) or 0 (not this worker's any more).
local lease = tonumber(ARGV[1])
local answers = {}
for i = 2, #ARGV, 2 do
  local f = redis.call('HMGET', op_key(ARGV[i]), 'dv', 'cn')
  if f[1] == ARGV[i + 1] then
    redis.call('ZADD', P .. 'leases', now + lease, ARGV[i])
    answers[#answers + 1] = (f[2] == '1') and 2 or 1
  else
    answers[#answers + 1] = 0
  end
end
return answers
