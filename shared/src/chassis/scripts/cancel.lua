-- Cancel operations and all that they fanned out to. ARGV: ids. Returns per operation:
-- 'cancelled', 'requested' (an attempt runs and is told), 'final' (it has ended), 'unknown'.
local function cancel(id)
  local f = redis.call('HMGET', op_key(id), 'st', 'fan', 'cn')
  if not f[1] then return 'unknown' end
  if is_final(f[1]) then return 'final' end
  local verdict = 'cancelled'
  if f[1] == RUNNING and f[2] ~= '1' then
    if f[3] ~= '1' then
      redis.call('HSET', op_key(id), 'cn', '1')
      emit('cancel_requested', id)
    end
    verdict = 'requested'
  else
    set_error(id, CANCELLED_CODE, 'cancelled by a client', 'CANCELLED', '')
    finish(id, CANCELLED, 'cancelled', {'ec', CANCELLED_CODE, 'em', 'cancelled by a client'})
  end
  for _, child in ipairs(redis.call('SMEMBERS', P .. 'kids:' .. id)) do cancel(child) end
  return verdict
end

local answers = {}
for i, id in ipairs(ARGV) do answers[i] = cancel(id) end
return answers
