-- The one way out of RUNNING. ARGV: stride, then per attempt: id, token, outcome, delay (µs),
-- result, error code, error message, error reason, error status.
-- Returns per attempt the state it led to, or 'stale' when the token is not the current attempt's.
local STRIDE = tonumber(ARGV[1])

-- What the store has accepted is counted, not what the task says: a wrong number would hang the parent or end it early.
local function fan_out(id, result)
  local key = op_key(id)
  local children = redis.call('SCARD', P .. 'kids:' .. id)
  end_attempt(id, OUT_FANNED_OUT)
  local fields = attempt_fields(id, OUT_FANNED_OUT)
  unlease(id)
  redis.call('HSET', key, 'fan', 1, 'kids', children, 'res', result)
  emit('fanned_out', id, fields)
  local f = redis.call('HMGET', key, 'k5', 'k6', 'k7', 'k8')
  local ended = 0
  for i = 1, 4 do ended = ended + tonumber(f[i] or '0') end
  if ended >= children then finish(id, SUCCEEDED, 'succeeded', {}) end
end

local function settle(id, outcome, cancelled, delay, result)
  if cancelled then outcome = OUT_CANCELLED end
  if outcome == OUT_RETURNED then return give_back(id) end
  if outcome == OUT_LOST then return lose(id) end
  if outcome == OUT_FANNED_OUT then return fan_out(id, result) end
  if outcome == OUT_CANCELLED then set_error(id, CANCELLED_CODE, 'cancelled by a client', 'CANCELLED', '') end
  end_attempt(id, outcome)
  local fields = attempt_fields(id, outcome)
  if outcome == OUT_RETRIED then
    close_span(id)
    unlease(id)
    redis.call('HDEL', op_key(id), 'lost')
    defer(id, RETRYING, now + delay)
    emit('retried', id, fields)
  elseif outcome == OUT_CANCELLED then
    finish(id, CANCELLED, 'cancelled', fields)
  else
    finish(id, FAILED, 'failed', fields)
  end
end

-- By far the most attempts end so: first-hand, with each key read once and written once.
local function succeed(id, f, outcome, result)
  local key, at = op_key(id), string.format('%.0f', now)
  redis.call('HSET', key, 'a' .. f[4] .. 'z', at .. '|' .. outcome, 'res', result, 'st', SUCCEEDED, 'et', at)
  redis.call('HDEL', key, 'dv', 'tok', 'cn', 'lost')
  redis.call('ZREM', P .. 'leases', id)
  redis.call('ZADD', P .. 'finished', now + tonumber(f[12]), id)
  tally('s:' .. f[6])
  local entry = {'v', 'succeeded', 'id', id, 'st', SUCCEEDED, 'task', f[5], 'q', f[6], 'pr', f[7], 'at', f[4], 'max', f[8],
    'w', f[9], 'tr', f[10], 'ct', f[11]}
  if f[13] then append(entry, 'par', f[13], 'root', f[14]) end
  append(entry, 'out', outcome, 'sp', f[15], 'bt', f[16], 'psp', f[17] or '', 'qt', f[18])
  log_entry(entry)
  if f[13] then child_ended(f[13], SUCCEEDED) end
end

local answers = {}
for base = 2, #ARGV, STRIDE do
  local id, token, outcome = ARGV[base], ARGV[base + 1], ARGV[base + 2]
  local f = redis.call('HMGET', op_key(id), 'st', 'tok', 'cn', 'at', 'task', 'q', 'pr', 'max', 'w', 'tr', 'ct', 'ks', 'par', 'root',
    'sp', 'bt', 'psp', 'qt')
  if f[1] ~= RUNNING or f[2] ~= token then
    if f[1] then emit('fenced', id, {'out', outcome}) end
    answers[#answers + 1] = 'stale'
  elseif outcome == OUT_SUCCEEDED then
    succeed(id, f, outcome, ARGV[base + 4])
    answers[#answers + 1] = SUCCEEDED
  else
    if outcome ~= OUT_FANNED_OUT and ARGV[base + 5] ~= '0' then
      set_error(id, ARGV[base + 5], ARGV[base + 6], ARGV[base + 7], ARGV[base + 8])
    end
    settle(id, outcome, f[3] == '1', tonumber(ARGV[base + 3]), ARGV[base + 4])
    answers[#answers + 1] = redis.call('HGET', op_key(id), 'st')
  end
end
count_tallied()
return answers
