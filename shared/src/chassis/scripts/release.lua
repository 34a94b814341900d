-- A worker gives deliveries up. ARGV: 'lost' or 'returned', then id and delivery of each.
-- What has not begun goes back to its place. What has begun is lost with its worker, but is not a drain's to return:
-- it runs on, and its own settle says how it ended.
local returned = ARGV[1] == 'returned'
local released = 0
for i = 2, #ARGV, 2 do
  local id, key = ARGV[i], op_key(ARGV[i])
  local f = redis.call('HMGET', key, 'st', 'dv')
  if f[2] and f[2] == ARGV[i + 1] then
    if f[1] == QUEUED then
      released = released + 1
      if returned then return_unbegun(id) else lose(id) end
    elseif not returned then
      released = released + 1
      lose(id)
    end
  end
end
return released
