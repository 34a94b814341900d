-- The archive has these: from here on they stay for the tail alone. ARGV: tail (µs), then id and stamp of each.
-- One that has changed since it was read keeps its place among the unarchived. Returns how many are marked.
local tail = tonumber(ARGV[1])
local marked = 0
for i = 2, #ARGV, 2 do
  local f = redis.call('HMGET', op_key(ARGV[i]), 'rep', 'dis', 'k5', 'k6', 'k7', 'k8', 'et')
  local stamp = {}
  for n = 1, 6 do stamp[n] = f[n] or '' end
  if f[7] and table.concat(stamp, '|') == ARGV[i + 1] then
    redis.call('ZADD', P .. 'finished', 'XX', 'LT', tonumber(f[7]) + tail, ARGV[i])
    marked = marked + 1
  end
end
return marked
