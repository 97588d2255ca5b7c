-- pause, census, list: routes as they stand, and the index of jobs.

-- pause: ARGV: route, 1 or 0. A paused route keeps its jobs and is not offered to claims.
function verbs.pause(keys, args)
  local route = args[1]
  for _, p in ipairs(prefixes(keys)) do
    local first = call('ZRANGE', p .. 'R:' .. route, '0', '0')[1]
    if args[2] == '1' then
      call('SADD', p .. 'Z', route)
      call('ZREM', p .. 'A', route)
    else
      call('SREM', p .. 'Z', route)
      if first then call('ZADD', p .. 'A', byte(first) - 48, route) end
    end
  end
  call('PUBLISH', 'pk:ctl', 'route')
  return 'OK'
end

-- One lane: name 7, depth u32, first and last id.
local function lane_row(p, route, lane)
  local key = p .. 'q:' .. route .. ':' .. lane
  local first, last = call('LINDEX', key, '0'), call('LINDEX', key, '-1')
  if not first then return nil end
  return lane .. pack('<I4', call('LLEN', key)) .. sub(first, 2, 35) .. sub(last, 2, 35)
end

-- census: routes of the shards from (shard, offset) on, as many as the budget of lanes allows. ARGV: index of the
-- shard to start with, offset in its routes, budget. Answers next shard, next offset, then a row for each shard
-- visited from its beginning (leases, delayed, live jobs, live bytes), then a row for each route: shard, name, paused,
-- totals, lanes.
function verbs.census(keys, args)
  local at, offset, budget = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  local shard, shard_rows, route_rows = prefixes(keys), {}, {}
  while at <= #shard and budget > 0 do
    local p = shard[at]
    if offset == 0 then
      local live = call('HMGET', p .. 'n', 'j', 'b')
      shard_rows[#shard_rows + 1] = {call('ZCARD', p .. 'L'), call('ZCARD', p .. 'D'),
                                     tonumber(live[1]) or 0, tonumber(live[2]) or 0}
    end
    local routes = call('ZRANGE', p .. 'M', offset, offset + budget - 1)
    for _, route in ipairs(routes) do
      local totals = call('HMGET', p .. 'c:' .. route, 'submitted', 'succeeded', 'failed', 'cancelled', 'expired',
                          'retried')
      local row = {at, route, call('SISMEMBER', p .. 'Z', route)}
      for i = 1, 6 do row[3 + i] = tonumber(totals[i]) or 0 end
      for _, lane in ipairs(call('ZRANGE', p .. 'R:' .. route, '0', '255')) do
        row[#row + 1] = lane_row(p, route, lane)
        budget = budget - 1
      end
      route_rows[#route_rows + 1] = row
      offset, budget = offset + 1, budget - 1
      if budget <= 0 then break end
    end
    if budget > 0 then at, offset = at + 1, 0 end
  end
  return {at, offset, shard_rows, route_rows}
end
verb_flags.census = {'no-writes', 'allow-oom'}

local LIST_SLACK, LIST_SCAN = 64, 10000

-- Milliseconds in a packed id: 10 bits of shard, then 42 of time.
local function packed_ms(packed)
  local high, low = unpack_bytes('>I6B', packed)
  return (high % 2 ^ 38) * 16 + floor(low / 16)
end

-- First index of a list whose time is not before ms, where the list is in order of time.
local function first_not_before(key, count, ms)
  local low, high = 0, count
  if count > 0 and packed_ms(call('LINDEX', key, '-1')) < ms then return count end
  while low < high do
    local middle = floor((low + high) / 2)
    if packed_ms(call('LINDEX', key, middle)) < ms then low = middle + 1 else high = middle end
  end
  return low
end

-- Entries of an index list around a moment: all of that millisecond and `limit` older ones, and a few on both
-- sides, because submits of several brokers arrive a little out of order.
local function window(key, at_ms, limit)
  local count = call('LLEN', key)
  local from = first_not_before(key, count, at_ms)
  local to = from < count and first_not_before(key, count, at_ms + 1) or count
  return call('LRANGE', key, max(0, from - limit - LIST_SLACK), min(to, from + LIST_SCAN) + LIST_SLACK)
end

-- list: ids of one hour. ARGV: newest hour wanted, ids of this ms and older, limit, then tenants. Answers the hour that was
-- looked at, the latest hour before it in which there is something (-1: none), and packed ids.
function verbs.list(keys, args)
  local wanted, at_ms, limit = tonumber(args[1]), tonumber(args[2]), tonumber(args[3])
  local shard, hour, older = prefixes(keys), -1, -1
  for _, p in ipairs(shard) do
    for i = 4, #args do
      local hours = call('ZREVRANGEBYSCORE', p .. 'I:' .. args[i], wanted, '-inf', 'LIMIT', '0', '1')
      if hours[1] then hour = max(hour, tonumber(hours[1])) end
    end
  end
  local ids = {}
  for _, p in ipairs(hour >= 0 and shard or {}) do
    for i = 4, #args do
      local name = p .. 'I:' .. args[i]
      local next_hours = call('ZREVRANGEBYSCORE', name, '(' .. hour, '-inf', 'LIMIT', '0', '1')
      if next_hours[1] then older = max(older, tonumber(next_hours[1])) end
      local key = p .. 'i:' .. args[i] .. ':' .. hour
      if call('EXISTS', key) == 0 then
        call('ZREM', name, hour)
      else
        ids[#ids + 1] = table.concat(window(key, at_ms, limit))
      end
    end
  end
  return {hour, older, table.concat(ids)}
end
