-- The archive knows which operations replay these. ARGV: id of the original and of its replay, of each.
-- One that has been replayed again meanwhile stays. Returns how many are noted.
local noted = 0
for i = 1, #ARGV, 2 do
  if redis.call('HGET', P .. 'replays', ARGV[i]) == ARGV[i + 1] then
    redis.call('HDEL', P .. 'replays', ARGV[i])
    noted = noted + 1
  end
end
return noted
