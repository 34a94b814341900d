-- Promote, expire, rescue, trim, and put back what lost its place. Run by every gateway and worker, throttled here.
-- ARGV: interval (ms), lease (µs), event retention (µs), limit, reconcile limit.
-- Returns {} when another has just run it, else {promoted, expired, rescued, deleted, reconciled, leases granted}.
local interval, lease, keep_events, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
if not redis.call('SET', P .. 'hk', '1', 'NX', 'PX', interval) then return {} end

-- Nobody was here for a while: the server was frozen, restarted, or alone. Owners get a full term to show themselves.
local last = tonumber(redis.call('GET', P .. 'hk:last') or '0')
redis.call('SET', P .. 'hk:last', now)
local granted = 0
if now - last > lease / 3 then
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', now + lease)) do
    redis.call('ZADD', P .. 'leases', now + lease, id)
    granted = granted + 1
  end
end

local promoted = promote(limit)

local expired = redis.call('ZRANGEBYSCORE', P .. 'expiring', '-inf', now, 'LIMIT', 0, limit)
for _, id in ipairs(expired) do
  redis.call('ZREM', P .. 'expiring', id)
  local state = redis.call('HGET', op_key(id), 'st')
  if state == SCHEDULED or state == QUEUED or state == RETRYING then expire(id) end
end

local overdue = redis.call('ZRANGEBYSCORE', P .. 'leases', '-inf', now, 'LIMIT', 0, limit)
for _, id in ipairs(overdue) do
  if redis.call('EXISTS', op_key(id)) == 1 then lose(id) else redis.call('ZREM', P .. 'leases', id) end
end

local deleted = forget_past(limit)

local cut = string.format('%.0f', math.floor((now - keep_events) / 1000))
if redis.call('XTRIM', P .. 'events', 'MINID', '~', cut) > 0 then redis.call('SET', P .. 'events:trimmed', cut) end

-- Safety net: a QUEUED operation that is in no queue, not leased and not parked goes back. A few at a time, in turn.
local reconciled = 0
-- The position is a rank: many operations may have been accepted at one instant.
local reconcile, position = tonumber(ARGV[5]), tonumber(redis.call('GET', P .. 'hk:rank') or '0')
local page = redis.call('ZRANGE', P .. 'ops', position, position + reconcile - 1)
for _, id in ipairs(page) do
  local f = redis.call('HMGET', op_key(id), 'st', 'q', 'pr', 'task', 'qt')
  if not f[1] then
    redis.call('ZREM', P .. 'ops', id)
  elseif f[1] == QUEUED and not redis.call('ZSCORE', queue_key(f[2], f[3]), id) and not redis.call('ZSCORE', P .. 'leases', id)
    and not redis.call('ZSCORE', P .. 'parked:' .. f[4], id) then
    enqueue(id, f[5])
    reconciled = reconciled + 1
  end
end
redis.call('SET', P .. 'hk:rank', (#page == reconcile) and position + reconcile or 0)

return {promoted, #expired, #overdue, deleted, reconciled, granted}
