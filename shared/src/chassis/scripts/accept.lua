-- Accept operations: idempotency key, operation, event, place in the queue, each operation atomic by itself.
-- ARGV: stride, idempotency time (ms), queue bound (0: none), then per operation the fields below.
-- Returns per operation {verdict, id}: 'accepted', 'same' (id of the first), 'reused', 'full', 'orphan' (its parent runs no more, or is to end).
local STRIDE = tonumber(ARGV[1])
local answers, depths = {}, {}

local function depth_of(queue)
  if not depths[queue] then
    local depth = 0
    for p = 1, 3 do depth = depth + redis.call('ZCARD', queue_key(queue, p)) end
    depths[queue] = depth
  end
  return depths[queue]
end

for base = 4, #ARGV, STRIDE do
  local id, record, task, queue, priority, max = ARGV[base], ARGV[base + 1], ARGV[base + 2], ARGV[base + 3], ARGV[base + 4], ARGV[base + 5]
  local due, expire_time, idempotency, fingerprint = tonumber(ARGV[base + 6]), ARGV[base + 7], ARGV[base + 8], ARGV[base + 9]
  local span, context, parent, replayed = ARGV[base + 10], ARGV[base + 11], ARGV[base + 12], ARGV[base + 13]
  local keep_success, keep_failure = ARGV[base + 14], ARGV[base + 15]
  local bound = tonumber(ARGV[3])
  local verdict, answer = 'accepted', id

  if idempotency ~= '' then
    local first = redis.call('GET', P .. 'idem:' .. idempotency)
    if first then
      verdict = (string.sub(first, 38) == fingerprint) and 'same' or 'reused'
      answer = string.sub(first, 1, 36)
    end
  end
  if verdict == 'accepted' and parent ~= '' then
    local f = redis.call('HMGET', op_key(parent), 'st', 'cn', 'fan')
    if f[1] ~= RUNNING or f[2] == '1' or f[3] == '1' then verdict = 'orphan' end
  end
  if verdict == 'accepted' and bound > 0 and depth_of(queue) >= bound then verdict = 'full' end

  if verdict == 'accepted' then
    if idempotency ~= '' then redis.call('SET', P .. 'idem:' .. idempotency, id .. ':' .. fingerprint, 'PX', ARGV[2]) end
    local key, at, waits = op_key(id), string.format('%.0f', now), due > now
    local fields = {'rec', record, 'task', task, 'q', queue, 'pr', priority, 'max', max, 'ct', at, 'xt', expire_time,
      'tr', span, 'ks', keep_success, 'kf', keep_failure}
    local entry = {'v', 'accepted', 'id', id, 'st', waits and SCHEDULED or QUEUED, 'task', task, 'q', queue, 'pr', priority,
      'at', '0', 'max', max, 'w', '', 'tr', span, 'ct', at}
    if parent ~= '' then
      local root = redis.call('HGET', op_key(parent), 'root') or parent
      append(fields, 'par', parent, 'root', root)
      append(entry, 'par', parent, 'root', root)
      redis.call('SADD', P .. 'kids:' .. parent, id)
    end
    if waits then
      append(fields, 'st', SCHEDULED, 'due', ARGV[base + 6], 'sch', ARGV[base + 6])
      append(entry, 'due', ARGV[base + 6])
      redis.call('ZADD', P .. 'due', due, id)
    else
      append(fields, 'st', QUEUED, 'qt', at)
      redis.call('ZADD', queue_key(queue, priority), now, id)
      depths[queue] = depths[queue] and depths[queue] + 1
    end
    redis.call('HSET', key, unpack(fields))
    redis.call('ZADD', P .. 'ops', now, id)
    if expire_time ~= '0' then redis.call('ZADD', P .. 'expiring', expire_time, id) end
    if replayed ~= '' then
      if redis.call('EXISTS', op_key(replayed)) == 1 then
        redis.call('HSET', op_key(replayed), 'rep', id)
        archive_again(replayed)
      else
        redis.call('HSET', P .. 'replays', replayed, id)
      end
    end
    ring(queue)
    tally('a:' .. queue)
    append(entry, 'tc', context)
    log_entry(entry)
  end
  answers[#answers + 1] = {verdict, answer}
end
count_tallied()
return answers
