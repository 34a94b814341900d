-- Cancel operations. ARGV: ids. Returns per operation {verdict, child ids...}:
-- 'cancelled', 'requested' (an attempt runs and is told), 'final' (it has ended), 'unknown'.
local answers = {}
for _, id in ipairs(ARGV) do
  local f = redis.call('HMGET', op_key(id), 'st', 'fan')
  local answer
  if not f[1] then
    answer = {'unknown'}
  elseif is_final(f[1]) then
    answer = {'final'}
  elseif f[1] == RUNNING and f[2] ~= '1' then
    redis.call('HSET', op_key(id), 'cn', '1')
    emit('cancel_requested', id)
    answer = {'requested'}
  else
    set_error(id, CANCELLED_CODE, 'cancelled by a client', 'CANCELLED', '')
    finish(id, CANCELLED, 'cancelled', {'ec', CANCELLED_CODE, 'em', 'cancelled by a client'})
    answer = {'cancelled'}
  end
  if answer[1] ~= 'final' then
    for _, child in ipairs(redis.call('SMEMBERS', P .. 'kids:' .. id)) do answer[#answer + 1] = child end
  end
  answers[#answers + 1] = answer
end
return answers
