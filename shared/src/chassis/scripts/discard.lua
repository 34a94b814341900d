-- Take operations off the dead letters; they stay FAILED. ARGV: ids. Returns per operation 'discarded' or 'unknown'.
local answers = {}
for i, id in ipairs(ARGV) do
  if redis.call('ZREM', P .. 'dead', id) == 1 then
    redis.call('HSET', op_key(id), 'dis', '1')
    archive_again(id)
    answers[i] = 'discarded'
  else
    answers[i] = 'unknown'
  end
end
return answers
