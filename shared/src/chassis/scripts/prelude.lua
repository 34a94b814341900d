-- Shared by every script of the store. KEYS[1] is the service's prefix, `wb:{<service>}:`; all keys share its hash tag.
-- Times are Unix microseconds of the server's clock. Numbers go to redis.call as numbers: it prints them whole.
local P = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])

-- waybill.operations.v1.OperationState
local SCHEDULED, QUEUED, RUNNING, RETRYING = '1', '2', '3', '4'
local SUCCEEDED, FAILED, CANCELLED, EXPIRED = '5', '6', '7', '8'
-- waybill.operations.v1.AttemptOutcome
local OUT_SUCCEEDED, OUT_RETRIED, OUT_FAILED, OUT_CANCELLED = '1', '2', '3', '4'
local OUT_LOST, OUT_RETURNED, OUT_FANNED_OUT = '5', '6', '7'

local MAX_DELIVERIES = 10
local MAX_RETURNS = 10

local function op_key(id) return P .. 'op:' .. id end
local function queue_key(queue, priority) return P .. 'q:' .. queue .. ':' .. priority end
local function is_final(state) return state >= SUCCEEDED end

-- Once a call is enough: nobody can take a bell before the script has ended.
local rung = {}
local function ring(queue)
  if rung[queue] then return end
  rung[queue] = true
  local bell = P .. 'bell:' .. queue
  if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
end

-- Counts for the rates of QueueService, in buckets of ten seconds.
local function count(slot, n)
  local bucket = P .. 'rate:' .. string.format('%.0f', math.floor(now / 10000000))
  if redis.call('HINCRBY', bucket, slot, n) == n then redis.call('EXPIRE', bucket, 120) end
end

-- What is counted for many operations of one call is written once, by `count_tallied` at its end.
local tallied = {}
local function tally(slot) tallied[slot] = (tallied[slot] or 0) + 1 end
local function count_tallied()
  for slot, n in pairs(tallied) do count(slot, n) end
end

local function log_entry(entry) redis.call('XADD', P .. 'events', '*', unpack(entry)) end
local function append(entry, ...)
  for i = 1, select('#', ...) do entry[#entry + 1] = (select(i, ...)) end
end

-- One entry in the event log, of an operation that has to be read for it. `more` is a flat list of further fields.
local function emit(verb, id, more)
  local f = redis.call('HMGET', op_key(id), 'st', 'task', 'q', 'pr', 'at', 'max', 'w', 'tr', 'ct', 'par', 'due', 'root')
  local entry = {'v', verb, 'id', id, 'st', f[1], 'task', f[2], 'q', f[3], 'pr', f[4], 'at', f[5] or '0', 'max', f[6],
    'w', f[7] or '', 'tr', f[8], 'ct', f[9]}
  if f[10] then
    for _, value in ipairs({'par', f[10], 'root', f[12]}) do entry[#entry + 1] = value end
  end
  if f[11] then entry[#entry + 1] = 'due'; entry[#entry + 1] = f[11] end
  for _, value in ipairs(more or {}) do entry[#entry + 1] = value end
  log_entry(entry)
end

-- Fields of an event that tells of an attempt's end: what the span exporter needs for its `process` and `settle` spans.
local function attempt_fields(id, outcome)
  local f = redis.call('HMGET', op_key(id), 'sp', 'bt', 'psp', 'ec', 'em', 'er', 'qt')
  return {'out', outcome, 'sp', f[1] or '', 'bt', f[2] or '0', 'psp', f[3] or '', 'ec', f[4] or '0', 'em', f[5] or '',
    'er', f[6] or '', 'qt', f[7] or '0'}
end

local function watch_expiry(id)
  local expire = redis.call('HGET', op_key(id), 'xt')
  if expire and expire ~= '0' then redis.call('ZADD', P .. 'expiring', expire, id) end
end

-- Into its queue, at the place that `at` gives it.
local function enqueue(id, at)
  local f = redis.call('HMGET', op_key(id), 'q', 'pr')
  redis.call('HSET', op_key(id), 'st', QUEUED, 'qt', at)
  redis.call('HDEL', op_key(id), 'due')
  redis.call('ZADD', queue_key(f[1], f[2]), at, id)
  ring(f[1])
end

-- Idle workers are woken to learn how long they may sleep.
local function defer(id, state, due)
  redis.call('HSET', op_key(id), 'st', state, 'due', due)
  redis.call('ZADD', P .. 'due', due, id)
  watch_expiry(id)
  ring(redis.call('HGET', op_key(id), 'q'))
end

local function unlease(id)
  redis.call('ZREM', P .. 'leases', id)
  redis.call('HDEL', op_key(id), 'dv', 'tok')
end

local function leave_waiting(id)
  local f = redis.call('HMGET', op_key(id), 'q', 'pr', 'task')
  redis.call('ZREM', queue_key(f[1], f[2]), id)
  redis.call('ZREM', P .. 'due', id)
  redis.call('ZREM', P .. 'expiring', id)
  redis.call('ZREM', P .. 'parked:' .. f[3], id)
end

-- An ended operation has changed: the archive is to have it as it now stands. Its score says so (see unarchived.lua).
local function archive_again(id)
  local f = redis.call('HMGET', op_key(id), 'st', 'et', 'ks', 'kf')
  if f[2] then redis.call('ZADD', P .. 'finished', 'XX', tonumber(f[2]) + tonumber((f[1] == FAILED) and f[4] or f[3]), id) end
end

-- Leaves nothing of an operation behind but its events.
local function forget(id)
  redis.call('DEL', op_key(id), P .. 'kids:' .. id)
  for _, index in ipairs({'finished', 'ops', 'dead'}) do redis.call('ZREM', P .. index, id) end
end

-- What is past its time, at most `limit`; how many.
local function forget_past(limit)
  local past = redis.call('ZRANGEBYSCORE', P .. 'finished', '-inf', now, 'LIMIT', 0, limit)
  for _, id in ipairs(past) do forget(id) end
  return #past
end

local finish

-- A parent that waits for its children ends when the last of them has.
local function child_ended(parent, state)
  local parent_key = op_key(parent)
  if redis.call('EXISTS', parent_key) == 0 then return end
  redis.call('HINCRBY', parent_key, 'k' .. state, 1)
  local f = redis.call('HMGET', parent_key, 'fan', 'kids', 'st', 'k5', 'k6', 'k7', 'k8')
  if is_final(f[3]) then return archive_again(parent) end
  if f[1] ~= '1' then return end
  local ended = 0
  for i = 4, 7 do ended = ended + tonumber(f[i] or '0') end
  if ended >= tonumber(f[2]) then finish(parent, SUCCEEDED, 'succeeded', {}) end
end

-- The one way into a final state.
finish = function(id, state, verb, more)
  local key = op_key(id)
  leave_waiting(id)
  unlease(id)
  redis.call('HSET', key, 'st', state, 'et', now)
  redis.call('HDEL', key, 'due', 'fan', 'cn')
  local f = redis.call('HMGET', key, 'q', 'ks', 'kf', 'par')
  redis.call('ZADD', P .. 'finished', now + tonumber((state == FAILED) and f[3] or f[2]), id)
  if state == FAILED then redis.call('ZADD', P .. 'dead', now, id) end
  count('s:' .. f[1], 1)
  emit(verb, id, more)
  if f[4] and f[4] ~= '' then child_ended(f[4], state) end
end

local function set_error(id, code, message, reason, status)
  redis.call('HSET', op_key(id), 'ec', code, 'em', message, 'er', reason, 'err', status)
end

-- Write the end of the current attempt.
local function end_attempt(id, outcome)
  local key = op_key(id)
  local f = redis.call('HMGET', key, 'at', 'err', 'ec', 'em', 'er')
  local n = f[1]
  redis.call('HSET', key, 'a' .. n .. 'z', string.format('%.0f', now) .. '|' .. outcome)
  if outcome ~= OUT_SUCCEEDED and outcome ~= OUT_FANNED_OUT and outcome ~= OUT_RETURNED and f[3] then
    redis.call('HSET', key, 'a' .. n .. 'e', f[2] or '', 'a' .. n .. 'c', f[3] .. '|' .. (f[5] or '') .. '|' .. (f[4] or ''))
  end
end

-- The attempt runs. `cleared`: an attempt of this number was returned before, and its end is taken off the record.
local function run(id, attempt, delivery, worker, token, span, lease, cleared)
  local key, n = op_key(id), string.format('a%d', attempt)
  local at = string.format('%.0f', now)
  redis.call('HSET', key, 'st', RUNNING, 'at', attempt, 'dv', delivery, 'dl', 0, 'tok', token, 'w', worker, 'sp', span, 'bt', at,
    n, at .. '|' .. span .. '|' .. worker)
  if attempt == 1 then redis.call('HSETNX', key, 'start', at) end
  if cleared then redis.call('HDEL', key, n .. 'z', n .. 'e', n .. 'c') end
  redis.call('ZADD', P .. 'leases', now + lease, id)
end

-- Begins before `psp` so that the next attempt links to this one.
local function close_span(id)
  local span = redis.call('HGET', op_key(id), 'sp')
  if span then redis.call('HSET', op_key(id), 'psp', span) end
end

local UNAVAILABLE, CANCELLED_CODE = '14', '1'

-- The attempt's worker died or lost its lease: the attempt counts.
local function lose(id)
  local key = op_key(id)
  local f = redis.call('HMGET', key, 'st', 'at', 'max', 'cn', 'w', 'xt')
  if f[1] ~= RUNNING then
    unlease(id)
    if f[1] == QUEUED then enqueue(id, redis.call('HGET', key, 'qt')) end
    return
  end
  set_error(id, UNAVAILABLE, 'the worker ' .. (f[5] or '') .. ' died or lost its lease', 'WORKER_LOST', '')
  end_attempt(id, OUT_LOST)
  local fields = attempt_fields(id, OUT_LOST)
  close_span(id)
  local deaths = redis.call('HINCRBY', key, 'lost', 1)
  if f[4] == '1' then
    set_error(id, CANCELLED_CODE, 'cancelled by a client', 'CANCELLED', '')
    finish(id, CANCELLED, 'cancelled', fields)
  elseif tonumber(f[2]) >= tonumber(f[3]) then
    local message = 'the worker died ' .. deaths .. ' times'
    set_error(id, UNAVAILABLE, message, 'WORKER_LOST', '')
    fields[10], fields[12] = UNAVAILABLE, message
    finish(id, FAILED, 'failed', fields)
  else
    unlease(id)
    enqueue(id, now)
    watch_expiry(id)
    emit('lost', id, fields)
  end
end

-- The attempt did not run to its end and does not count, at most MAX_RETURNS times.
local function give_back(id)
  local key = op_key(id)
  if redis.call('HINCRBY', key, 'ret', 1) > MAX_RETURNS then return lose(id) end
  end_attempt(id, OUT_RETURNED)
  local fields = attempt_fields(id, OUT_RETURNED)
  close_span(id)
  unlease(id)
  enqueue(id, redis.call('HGET', key, 'qt'))
  watch_expiry(id)
  emit('returned', id, fields)
  redis.call('HINCRBY', key, 'at', -1)
end

-- A delivery that has not begun goes back to its place.
local function return_unbegun(id)
  redis.call('HINCRBY', op_key(id), 'dl', -1)
  unlease(id)
  enqueue(id, redis.call('HGET', op_key(id), 'qt'))
end

-- Due operations into their queues, at most `limit`.
local function promote(limit)
  local due = redis.call('ZRANGEBYSCORE', P .. 'due', '-inf', now, 'LIMIT', 0, limit)
  for _, id in ipairs(due) do
    redis.call('ZREM', P .. 'due', id)
    local state = redis.call('HGET', op_key(id), 'st')
    if state == SCHEDULED or state == RETRYING then
      enqueue(id, now)
      emit('queued', id)
    end
  end
  return #due
end

local function expire(id)
  set_error(id, '4', 'expire_time passed before an attempt began', 'EXPIRED', '')
  finish(id, EXPIRED, 'expired', {'ec', '4', 'em', 'expire_time passed before an attempt began'})
end
