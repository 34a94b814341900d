-- What is true of queues now. ARGV: how many members of an index are looked at, how many buckets of rates, then the queues.
-- Returns per queue {depths of the three priorities.., time that the oldest is due since (µs; 0: none), not due yet, in flight,
-- paused (1 or 0), accepted and settled within the buckets, parked operations, parked messages}.
local looked_at, buckets = tonumber(ARGV[1]), tonumber(ARGV[2])

local function by_queue(found, index)
  for _, id in ipairs(redis.call('ZRANGE', P .. index, 0, looked_at - 1)) do
    local queue = redis.call('HGET', op_key(id), 'q')
    if queue then found[queue] = (found[queue] or 0) + 1 end
  end
  return found
end

local waiting, in_flight, parked = by_queue({}, 'due'), by_queue({}, 'leases'), {}
for _, task in ipairs(redis.call('SMEMBERS', P .. 'parked')) do by_queue(parked, 'parked:' .. task) end

-- The bucket that is being filled is not counted.
local counts = {}
for past = 1, buckets do
  local bucket = redis.call('HGETALL', P .. 'rate:' .. string.format('%.0f', math.floor(now / 10000000) - past))
  for i = 1, #bucket, 2 do counts[bucket[i]] = (counts[bucket[i]] or 0) + tonumber(bucket[i + 1]) end
end

local answer = {}
for i = 3, #ARGV do
  local queue, facts, oldest = ARGV[i], {}, nil
  for priority = 1, 3 do
    local slot = queue_key(queue, priority)
    facts[priority] = redis.call('ZCARD', slot)
    local first = tonumber(redis.call('ZRANGE', slot, 0, 0, 'WITHSCORES')[2])
    oldest = first and math.min(first, oldest or first) or oldest
  end
  append(facts, oldest or 0, waiting[queue] or 0, in_flight[queue] or 0, redis.call('SISMEMBER', P .. 'paused', queue),
    counts['a:' .. queue] or 0, counts['s:' .. queue] or 0, parked[queue] or 0,
    redis.call('LLEN', P .. 'celery:parked:' .. queue))
  answer[i - 2] = facts
end
return answer
