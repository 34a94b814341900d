-- Forget operations that have ended. ARGV: ids. Returns per operation 'deleted', 'live' or 'unknown'.
local answers = {}
for _, id in ipairs(ARGV) do
  local state = redis.call('HGET', op_key(id), 'st')
  if not state then
    answers[#answers + 1] = 'unknown'
  elseif not is_final(state) then
    answers[#answers + 1] = 'live'
  else
    redis.call('DEL', op_key(id), P .. 'kids:' .. id)
    for _, index in ipairs({'finished', 'ops', 'dead'}) do redis.call('ZREM', P .. index, id) end
    answers[#answers + 1] = 'deleted'
  end
end
return answers
