-- Take up to n due operations for a worker, each with a lease.
-- ARGV: n, lease (µs), delivery base (unique per call), number of queues, queues..., tasks that the worker registers...
-- Returns {next due time or 0, {id, delivery, record, attempts so far, task, queue}...}.
local limit, lease, base, queue_count = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], tonumber(ARGV[4])
local queues, known = {}, {}
for i = 5, 4 + queue_count do
  if redis.call('SISMEMBER', P .. 'paused', ARGV[i]) == 0 then queues[#queues + 1] = ARGV[i] end
end
for i = 5 + queue_count, #ARGV do known[ARGV[i]] = true end

promote(100)
if redis.call('SCARD', P .. 'parked') > 0 then
  for _, task in ipairs(redis.call('SMEMBERS', P .. 'parked')) do
    if known[task] then
      for _, id in ipairs(redis.call('ZRANGE', P .. 'parked:' .. task, 0, -1)) do
        if redis.call('HGET', op_key(id), 'st') == QUEUED then
          enqueue(id, redis.call('HGET', op_key(id), 'qt'))
          emit('queued', id)
        end
      end
      redis.call('DEL', P .. 'parked:' .. task)
      redis.call('SREM', P .. 'parked', task)
    end
  end
end

-- Six of ten turns begin with the highest priority, three with the middle one, one with the lowest.
local TURNS = {'3', '3', '2', '3', '3', '2', '3', '3', '2', '1'}
local OTHERS = {['3'] = {'3', '2', '1'}, ['2'] = {'2', '3', '1'}, ['1'] = {'1', '3', '2'}}
local left, total = {}, 0
for _, queue in ipairs(queues) do
  for p = 1, 3 do
    local n = redis.call('ZCARD', queue_key(queue, p))
    left[queue .. ':' .. p] = n
    total = total + n
  end
end

-- Each round of ten turns begins one queue further, so that every queue has its share of every priority.
local function take(turn)
  local first = turn % 10 + math.floor(turn / 10)
  for _, priority in ipairs(OTHERS[TURNS[turn % 10 + 1]]) do
    for i = 1, #queues do
      local queue = queues[(first + i) % #queues + 1]
      local slot = queue .. ':' .. priority
      if left[slot] > 0 then
        left[slot] = left[slot] - 1
        total = total - 1
        return redis.call('ZPOPMIN', queue_key(queue, priority))[1]
      end
    end
  end
end

local answer = {0}
local turn = (total > 0) and redis.call('INCR', P .. 'turn') or 0
while total > 0 and #answer <= limit do
  local id = take(turn)
  turn = turn + 1
  local key = op_key(id)
  local f = redis.call('HMGET', key, 'st', 'task', 'xt', 'rec', 'at', 'q')
  if f[1] == QUEUED then
    local deliveries = redis.call('HINCRBY', key, 'dl', 1)
    if f[3] ~= '0' and now >= tonumber(f[3]) then
      expire(id)
    elseif not known[f[2]] then
      redis.call('HINCRBY', key, 'dl', -1)
      redis.call('ZADD', P .. 'parked:' .. f[2], now, id)
      redis.call('SADD', P .. 'parked', f[2])
      emit('parked', id)
    elseif deliveries > MAX_DELIVERIES then
      set_error(id, UNAVAILABLE, 'delivered ' .. MAX_DELIVERIES .. ' times without an attempt', 'DELIVERIES_EXHAUSTED', '')
      finish(id, FAILED, 'failed', {'ec', UNAVAILABLE, 'em', 'delivered ' .. MAX_DELIVERIES .. ' times without an attempt'})
    else
      local delivery = base .. ':' .. #answer
      redis.call('HSET', key, 'dv', delivery)
      redis.call('ZADD', P .. 'leases', now + lease, id)
      answer[#answer + 1] = {id, delivery, f[4], tonumber(f[5] or '0'), f[2], f[6]}
    end
  end
end

if total > 0 then
  for _, queue in ipairs(queues) do
    if left[queue .. ':1'] + left[queue .. ':2'] + left[queue .. ':3'] > 0 then ring(queue) end
  end
end
local next_due = redis.call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
if next_due[2] then answer[1] = math.max(0, tonumber(next_due[2]) - now) else answer[1] = -1 end
return answer
