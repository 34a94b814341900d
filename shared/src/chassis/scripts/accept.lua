-- Accept operations: idempotency key, operation, event, place in the queue, each operation atomic by itself.
-- ARGV: stride, idempotency time (ms), queue bound (0: none), then per operation the fields below.
-- Returns per operation {verdict, id}: 'accepted', 'same' (id of the first), 'reused', 'full', 'orphan' (its parent runs no more, or is to end).
local STRIDE = tonumber(ARGV[1])
local answers = {}
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
  if verdict == 'accepted' and bound > 0 then
    local depth = 0
    for p = 1, 3 do depth = depth + redis.call('ZCARD', queue_key(queue, p)) end
    if depth >= bound then verdict = 'full' end
  end

  if verdict == 'accepted' then
    if idempotency ~= '' then redis.call('SET', P .. 'idem:' .. idempotency, id .. ':' .. fingerprint, 'PX', ARGV[2]) end
    redis.call('HSET', op_key(id), 'rec', record, 'task', task, 'q', queue, 'pr', priority, 'max', max, 'ct', now, 'xt', expire_time,
      'tr', span, 'ks', keep_success, 'kf', keep_failure, 'st', SCHEDULED)
    if parent ~= '' then
      redis.call('HSET', op_key(id), 'par', parent, 'root', redis.call('HGET', op_key(parent), 'root') or parent)
      redis.call('SADD', P .. 'kids:' .. parent, id)
    end
    if replayed ~= '' then
      if redis.call('EXISTS', op_key(replayed)) == 1 then
        redis.call('HSET', op_key(replayed), 'rep', id)
        archive_again(replayed)
      else
        redis.call('HSET', P .. 'replays', replayed, id)
      end
    end
    redis.call('ZADD', P .. 'ops', now, id)
    watch_expiry(id)
    if due > now then defer(id, SCHEDULED, due) else enqueue(id, now) end
    count('a', queue, 1)
    emit('accepted', id, {'tc', context})
  end
  answers[#answers + 1] = {verdict, answer}
end
return answers
