-- Take up to n due operations for a worker, each with a lease; begin those that are short, so that they need no begin of their own.
-- ARGV: n, lease (µs), session of the worker, number of this fetch in it, number of the last fetch that was heard of, worker,
-- seed of tokens and span ids (random), budget of shared begins (µs), number of queues, queues..., then each task that the worker registers with the time that it is known to run (µs; -1: unknown).
-- Returns {time to the next due operation (-1: none), {id, delivery, record, attempts so far, task, queue, max attempts, time that
-- it was due (µs)}...}; of what has begun, also the token, the span id, and the span id of the attempt before.
local limit, lease, session, number, heard = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4], ARGV[5]
local worker, seed, budget, queue_count = ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
local base = session .. '.' .. number
local paused, queues, known = {}, {}, {}
for _, queue in ipairs(redis.call('SMEMBERS', P .. 'paused')) do paused[queue] = true end
for i = 10, 9 + queue_count do
  if not paused[ARGV[i]] then queues[#queues + 1] = ARGV[i] end
end
for i = 10 + queue_count, #ARGV, 2 do known[ARGV[i]] = tonumber(ARGV[i + 1]) end

-- A fetch whose answer was lost: nobody runs what it handed out, so it goes back, and its begins do not count.
local last_key = P .. 'fetched:' .. session
local last = redis.call('GET', last_key)
if last then
  local unheard, ids = string.match(last, '^(%d+) (.*)$')
  if unheard ~= heard then
    for id in string.gmatch(ids, '%S+') do
      local f = redis.call('HMGET', op_key(id), 'st', 'dv')
      local mine = f[2] and string.find(f[2], session .. '.' .. unheard .. ':', 1, true) == 1
      if mine and f[1] == RUNNING then give_back(id) elseif mine and f[1] == QUEUED then return_unbegun(id) end
    end
  end
end

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
    local slot = queue_key(queue, p)
    left[slot] = redis.call('ZCARD', slot)
    total = total + left[slot]
  end
end

-- Each round of ten turns begins one queue further, so that every queue has its share of every priority.
local function slot_of(turn)
  local first = turn % 10 + math.floor(turn / 10)
  for _, priority in ipairs(OTHERS[TURNS[turn % 10 + 1]]) do
    for i = 1, #queues do
      local slot = queue_key(queues[(first + i) % #queues + 1], priority)
      if left[slot] > 0 then return slot end
    end
  end
end

-- The ids of the next n turns, taken out of their queues with one call a slot.
local function take(turn, n)
  local slots, wanted = {}, {}
  for i = 1, n do
    local slot = slot_of(turn + i - 1)
    left[slot] = left[slot] - 1
    slots[i], wanted[slot] = slot, (wanted[slot] or 0) + 1
  end
  local popped = {}
  for slot, count in pairs(wanted) do popped[slot] = redis.call('ZPOPMIN', slot, count) end
  local ids, position = {}, {}
  for i, slot in ipairs(slots) do
    position[slot] = (position[slot] or -1) + 2
    ids[i] = popped[slot][position[slot]]
  end
  return ids
end

-- A short attempt begins with its delivery. Not the last that is allowed, nor one whose attempt before died with its worker:
-- a poison message would use up the attempts of those that began with it.
local function begins(f, attempts)
  local cost = known[f[2]]
  if cost < 0 or cost > budget or f[9] or attempts + 1 >= tonumber(f[8]) then return false end
  budget = budget - cost
  return true
end

-- The last attempt that is allowed, after one that died with its worker: it may be poison. A worker has one such at a time,
-- so that poison makes no dead letter of what always ran beside it. The others keep their places; so many of them that a
-- fetch would be all looking are looked at by the next one.
local MAX_PASSED_OVER = 100
local suspect_key, waiting_suspects = P .. 'suspect:' .. session, {}
local held_suspect
local function is_suspect(f) return f[9] and tonumber(f[5] or '0') + 1 >= tonumber(f[8]) end
local function may_take_suspect(id)
  if held_suspect == nil then
    held_suspect = redis.call('GET', suspect_key)
    local delivery = held_suspect and redis.call('HGET', op_key(held_suspect), 'dv')
    if not (delivery and string.find(delivery, session .. '.', 1, true) == 1) then held_suspect = false end
  end
  if held_suspect then return false end
  held_suspect = id
  redis.call('SET', suspect_key, id, 'EX', 86400)
  return true
end

local answer = {0}

local function deliver(id, f)
  local key, attempts, delivery = op_key(id), tonumber(f[5] or '0'), base .. ':' .. #answer
  local item = {id, delivery, f[4], attempts, f[2], f[6], tonumber(f[8]), math.max(0, now - tonumber(f[17] or now))}
  if begins(f, attempts) then
    local span = string.sub(redis.sha1hex(seed .. id), 1, 16)
    local token = seed .. '.' .. #answer
    run(id, attempts + 1, delivery, worker, token, span, lease, f[10])
    if f[3] ~= '0' then redis.call('ZREM', P .. 'expiring', id) end
    local entry = {'v', 'began', 'id', id, 'st', RUNNING, 'task', f[2], 'q', f[6], 'pr', f[11], 'at', attempts + 1, 'max', f[8],
      'w', worker, 'tr', f[12], 'ct', f[13]}
    if f[14] then append(entry, 'par', f[14], 'root', f[15]) end
    append(entry, 'sp', span, 'psp', f[16] or '')
    log_entry(entry)
    append(item, token, span, f[16] or '')
  else
    redis.call('HSET', key, 'dv', delivery, 'dl', tonumber(f[7] or '0') + 1)
    redis.call('ZADD', P .. 'leases', now + lease, id)
  end
  answer[#answer + 1] = item
end

local function hand_out(id)
  local f = redis.call('HMGET', op_key(id), 'st', 'task', 'xt', 'rec', 'at', 'q', 'dl', 'max', 'lost', 'ret', 'pr', 'tr', 'ct',
    'par', 'root', 'psp', 'qt')
  if f[1] ~= QUEUED then return end
  if f[3] ~= '0' and now >= tonumber(f[3]) then
    expire(id)
  elseif not known[f[2]] then
    redis.call('ZADD', P .. 'parked:' .. f[2], now, id)
    redis.call('SADD', P .. 'parked', f[2])
    emit('parked', id)
  elseif tonumber(f[7] or '0') >= MAX_DELIVERIES then
    set_error(id, UNAVAILABLE, 'delivered ' .. MAX_DELIVERIES .. ' times without an attempt', 'DELIVERIES_EXHAUSTED', '')
    finish(id, FAILED, 'failed', {'ec', UNAVAILABLE, 'em', 'delivered ' .. MAX_DELIVERIES .. ' times without an attempt'})
  elseif is_suspect(f) and not may_take_suspect(id) then
    waiting_suspects[#waiting_suspects + 1] = {queue_key(f[6], f[11]), f[17], id}
  else
    deliver(id, f)
  end
end

local turn = (total > 0) and redis.call('INCR', P .. 'turn') or 0
while total > 0 and #answer <= limit and #waiting_suspects < MAX_PASSED_OVER do
  local n = math.min(total, limit + 1 - #answer)
  for _, id in ipairs(take(turn, n)) do hand_out(id) end
  turn, total = turn + n, total - n
end

for _, each in ipairs(waiting_suspects) do redis.call('ZADD', each[1], each[2], each[3]) end

if #answer > 1 then
  local ids = {}
  for i = 2, #answer do ids[i - 1] = answer[i][1] end
  -- For longer than any outage after which the worker may still come for them.
  redis.call('SET', last_key, number .. ' ' .. table.concat(ids, ' '), 'EX', 86400)
elseif last then
  redis.call('DEL', last_key)
end
if total > 0 and #waiting_suspects < MAX_PASSED_OVER then
  for _, queue in ipairs(queues) do
    if left[queue_key(queue, 1)] + left[queue_key(queue, 2)] + left[queue_key(queue, 3)] > 0 then ring(queue) end
  end
end
local next_due = redis.call('ZRANGE', P .. 'due', 0, 0, 'WITHSCORES')
if next_due[2] then answer[1] = math.max(0, tonumber(next_due[2]) - now) else answer[1] = -1 end
return answer
