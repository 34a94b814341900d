-- The one way out of RUNNING. ARGV: stride, then per attempt: id, token, outcome, delay (µs),
-- result, error code, error message, error reason, error status.
-- Returns per attempt the state it led to, or 'stale' when the token is not the current attempt's.
local STRIDE = tonumber(ARGV[1])

local function give_back(id)
  local key = op_key(id)
  if redis.call('HINCRBY', key, 'ret', 1) > MAX_RETURNS then return lose(id) end
  end_attempt(id, OUT_RETURNED)
  local fields = attempt_fields(id, OUT_RETURNED)
  close_span(id)
  redis.call('HINCRBY', key, 'at', -1)
  unlease(id)
  enqueue(id, redis.call('HGET', key, 'qt'))
  watch_expiry(id)
  emit('returned', id, fields)
end

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

local function settle(id, outcome, number, result)
  local key = op_key(id)
  local cancelled = redis.call('HGET', key, 'cn') == '1'
  if cancelled and outcome ~= OUT_SUCCEEDED then outcome = OUT_CANCELLED end
  if outcome == OUT_RETURNED then return give_back(id) end
  if outcome == OUT_LOST then return lose(id) end
  if outcome == OUT_FANNED_OUT then return fan_out(id, result) end
  if outcome == OUT_CANCELLED then
    set_error(id, CANCELLED_CODE, 'cancelled by a client', 'CANCELLED', '')
  end
  end_attempt(id, outcome)
  local fields = attempt_fields(id, outcome)
  if outcome == OUT_SUCCEEDED then
    redis.call('HSET', key, 'res', result)
    finish(id, SUCCEEDED, 'succeeded', fields)
  elseif outcome == OUT_RETRIED then
    close_span(id)
    unlease(id)
    defer(id, RETRYING, now + number)
    emit('retried', id, fields)
  elseif outcome == OUT_CANCELLED then
    finish(id, CANCELLED, 'cancelled', fields)
  else
    finish(id, FAILED, 'failed', fields)
  end
end

local answers = {}
for base = 2, #ARGV, STRIDE do
  local id, token, outcome = ARGV[base], ARGV[base + 1], ARGV[base + 2]
  local f = redis.call('HMGET', op_key(id), 'st', 'tok')
  if f[1] == RUNNING and f[2] == token then
    if outcome ~= OUT_SUCCEEDED and outcome ~= OUT_FANNED_OUT and ARGV[base + 5] ~= '0' then
      set_error(id, ARGV[base + 5], ARGV[base + 6], ARGV[base + 7], ARGV[base + 8])
    end
    settle(id, outcome, tonumber(ARGV[base + 3]), ARGV[base + 4])
    answers[#answers + 1] = redis.call('HGET', op_key(id), 'st')
  else
    if f[1] then emit('fenced', id, {'out', outcome}) end
    answers[#answers + 1] = 'stale'
  end
end
return answers
