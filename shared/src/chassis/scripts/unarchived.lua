-- Ended operations that the archive is to have, as they stand, those first whose time is up first.
-- An operation is in `finished` with the end of its retention until the archive has it, then with the end of the tail,
-- which lies no further ahead than the tail is long. So whatever lies further ahead is not archived, and what is kept
-- for no longer than the tail never is.
-- ARGV: who asks, turn (s), tail (µs), limit, bytes of payload and result that are enough for one answer.
-- Returns nil when it is another's turn, else {id, {field, value...}} of each.
local turn, tail, enough = P .. 'archive:turn', tonumber(ARGV[3]), tonumber(ARGV[5])
local holder = redis.call('GET', turn)
if holder and holder ~= ARGV[1] then return false end
redis.call('SET', turn, ARGV[1], 'EX', ARGV[2])

local answer, size = {}, 0
local beyond = '(' .. string.format('%.0f', now + tail)
for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'finished', beyond, '+inf', 'LIMIT', 0, ARGV[4])) do
  local key = op_key(id)
  if #answer > 0 and size >= enough then break end
  size = size + redis.call('HSTRLEN', key, 'rec') + redis.call('HSTRLEN', key, 'res')
  answer[#answer + 1] = {id, redis.call('HGETALL', key)}
end
return answer
