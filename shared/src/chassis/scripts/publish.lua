-- Publish events of the service, each once. ARGV: time that an id is remembered (s), then id, type and bytes of each.
-- Returns per event 1, or 0 when it had been published.
local answers = {}
for i = 2, #ARGV, 3 do
  if redis.call('SET', P .. 'published:' .. ARGV[i], '1', 'NX', 'EX', ARGV[1]) then
    redis.call('XADD', P .. 'events', '*', 'ty', ARGV[i + 1], 'e', ARGV[i + 2])
    answers[#answers + 1] = 1
  else
    answers[#answers + 1] = 0
  end
end
return answers
