-- Forget operations that have ended. ARGV: ids. Returns per operation 'deleted', 'live' or 'unknown'.
local answers = {}
for _, id in ipairs(ARGV) do
  local state = redis.call('HGET', op_key(id), 'st')
  if not state then
    answers[#answers + 1] = 'unknown'
  elseif not is_final(state) then
    answers[#answers + 1] = 'live'
  else
    forget(id)
    answers[#answers + 1] = 'deleted'
  end
end
return answers
