-- renew, recover, sweep: leases and everything that time does to jobs.

-- renew: one argument a shard, its members one after the other; ARGV[1] is the lease in ms. Answers the members
-- whose lease is gone, one string a shard.
function verbs.renew(keys, args)
  local raw, answer = now_ms(), {}
  for i, p in ipairs(prefixes(keys)) do
    local list, members = args[i + 1], {}
    local score = string.format('%.0f', logical_ms(p, raw) + tonumber(args[1]))
    local lost, renewed = {}, {}
    for at = 1, #list, 64 do members[#members + 1] = sub(list, at, at + 63) end
    local scores = #members > 0 and call('ZMSCORE', p .. 'L', unpack(members)) or {}
    for n, member in ipairs(members) do
      if scores[n] then
        renewed[#renewed + 1] = score
        renewed[#renewed + 1] = member
      else
        lost[#lost + 1] = member
      end
    end
    if renewed[1] then call('ZADD', p .. 'L', 'XX', unpack(renewed)) end
    answer[i] = table.concat(lost)
  end
  return answer
end

-- A lease whose process is gone: back to the queue, alone if this happened before, and at last failed as poison.
-- blame: 'c' this very job was being worked on when its process died, so it is suspect at once; 'i' another was, and
-- nothing is counted; nil: nobody knows.
local function recover_one(p, member, raw, sums, blame)
  local id = sub(member, 2, 35)
  local h = read_record(p .. 'j:' .. id, READ)
  if is_newer(h) then return nil end -- for newer processes
  if call('ZREM', p .. 'L', member) == 0 or not is_record(h) then return false end
  local _, state, _, claim, _, crashes, _, token = unpack_bytes(MUTABLE, h, 2)
  if state ~= 'r' or claim ~= unpack_bytes('<I2', member, 47) or token ~= sub(member, 49) then return false end
  local expires = unpack_bytes('<I6', h, 57)
  if blame ~= 'i' then crashes = min(crashes + 1, 255) end
  if blame == 'c' then crashes = max(crashes, LIMIT_CRASHES_SUSPECT) end
  h = sub(h, 1, 7) .. char(crashes) .. sub(h, 9)
  if expires > 0 and expires <= raw then
    end_job(p, id, h, 'E', EXPIRED, raw, sums)
  elseif crashes >= LIMIT_CRASHES then
    end_job(p, id, h, 'F', POISON, raw, sums)
  else
    -- Without its token the lost worker's late commit is fenced, whatever it is.
    requeue(p, id, h, {raw = raw, to_front = true, crashes = crashes, forgets_token = true,
                       flags = crashes >= LIMIT_CRASHES_SUSPECT and SUSPECT or 0})
  end
  return true
end

-- recover: members of dead children, one argument a shard; then, if that is known, blame. Answers how many were
-- recovered.
function verbs.recover(keys, args)
  local raw, sums, count, shard = now_ms(), {}, 0, prefixes(keys)
  for i, p in ipairs(shard) do
    for at = 1, #args[i], 64 do
      if recover_one(p, sub(args[i], at, at + 63), raw, sums, args[#shard + 1]) then count = count + 1 end
    end
  end
  write_sums(sums)
  if count > 0 then wake(nil) end
  return count
end

local DEADLINE_AGAIN_MS = 10000

-- What one call of sweep does, over all shards, is bounded by result.left; who has more to do is called again.

-- Members of a sorted set that are due, as many as there is work left for.
local function take_due(key, now, result)
  if result.left <= 0 then
    result.has_more = true
    return {}
  end
  local due = call('ZRANGEBYSCORE', key, '-inf', now, 'LIMIT', '0', result.left)
  result.left = result.left - #due
  if result.left == 0 then result.has_more = true end
  return due
end

local function promote(p, raw, sums, result)
  for _, ticket in ipairs(take_due(p .. 'D', raw, result)) do
    local id = sub(ticket, 2, 35)
    local h = read_record(p .. 'j:' .. id, READ)
    local is_ours = not is_newer(h)
    if is_ours then
      call('ZREM', p .. 'D', ticket)
    else
      call('ZADD', p .. 'D', raw + ASIDE_MS, ticket)
    end
    if is_ours and #h >= HEADER and sub(h, 3, 3) == 's' and sub(h, 5, 6) == sub(ticket, 47, 48) then
      local expires = unpack_bytes('<I6', h, 57)
      if expires > 0 and expires <= raw then
        end_job(p, id, h, 'E', EXPIRED, raw, sums)
      else
        -- A retry had its turn before and goes to the front.
        requeue(p, id, h, {raw = raw, to_front = byte(h, 7) > 0})
      end
      result.promoted = result.promoted + 1
    end
  end
  local first = call('ZRANGE', p .. 'D', '0', '0', 'WITHSCORES')
  if first[1] then result.due = min(result.due, max(0, tonumber(first[2]) - raw)) end
end

-- A job whose deadline comes near: into the sorted set. Passed over: what has ended, and deadlines from before_ms on.
local function near(p, id, raw, before_ms)
  local h = read_record(p .. 'j:' .. id, HEADER_LAST)
  if is_newer(h) then
    call('ZADD', p .. 'Y', raw, id)
  elseif #h >= HEADER and string.find('qsbr', sub(h, 3, 3), 1, true) then
    local expires = unpack_bytes('<I6', h, 57)
    if expires > 0 and expires < before_ms then call('ZADD', p .. 'Y', expires, id) end
  end
end

-- The lists of minutes that come near. Answers the first minute that has not.
local function near_minutes(p, raw, result)
  local stored, last = tonumber(call('GET', p .. 'yp')), floor(raw / 60000) + 1
  local pointer = stored or last + 1
  for _ = 1, 100 do
    if pointer > last or result.left <= 0 then break end
    local ids = call('LPOP', p .. 'y:' .. pointer, result.left)
    if not ids then
      pointer = pointer + 1
    else
      result.left = result.left - #ids
      for _, id in ipairs(ids) do near(p, id, raw, 1e15) end
    end
  end
  if stored and pointer ~= stored then call('SET', p .. 'yp', pointer) end
  if pointer <= last then result.has_more = true end
  return pointer
end

-- An index list by which no deadline can be found any more: submit leaves none to it that are less than an hour from
-- `minute`. It was kept longer than the index needs it, lest it goes before it is walked.
local function forget_list(p, list, minute)
  local key = p .. 'i:' .. list
  call('ZREM', p .. 'yi', list)
  call('HDEL', p .. 'yo', list)
  call('SET', p .. 'yp', minute, 'NX')
  local ends = call('EXPIRETIME', key)
  if ends > 0 then call('EXPIREAT', key, ends - DEADLINE_GRACE_S) end
end

-- Jobs of an index list with the usual deadline before this minute: from where the last look ended.
local function near_listed(p, list, minute, raw, result)
  local key, offset = p .. 'i:' .. list, tonumber(call('HGET', p .. 'yo', list) or 0)
  local packed, from, next_ms = {redis.pcall('LINDEX', key, offset)}, offset, nil
  local is_list = type(packed[1]) ~= 'table' -- somebody else's key must not end all sweeps
  result.left = result.left - 1
  if is_list and packed[1] and last_minute(slot_of(packed[1]) * SLOT_MS) < minute then
    packed = call('LRANGE', key, offset, offset + result.left)
  end
  for _, id in ipairs(is_list and packed[1] and packed or {}) do
    local at_ms = slot_of(id) * SLOT_MS
    if last_minute(at_ms) >= minute then
      next_ms = at_ms
      break
    end
    near(p, id_of(id), raw, minute * 60000)
    offset = offset + 1
  end
  result.left = result.left - (offset - from)
  if next_ms then
    call('ZADD', p .. 'yi', look_at(next_ms), list)
  elseif result.left < 0 then
    result.has_more = true
  elseif not is_list or last_minute(tonumber(string.match(list, '%d+$')) * HOUR_MS) < minute then
    forget_list(p, list, minute)
    return
  end
  if offset ~= from then call('HSET', p .. 'yo', list, offset) end
end

local function near_deadlines(p, raw, result)
  local minute = near_minutes(p, raw, result)
  local lists = call('ZRANGEBYSCORE', p .. 'yi', '-inf', raw, 'LIMIT', '0', LIMIT_SWEEP)
  if #lists == LIMIT_SWEEP then result.has_more = true end
  for _, list in ipairs(lists) do
    if result.left <= 0 then
      result.has_more = true
      break
    end
    near_listed(p, list, minute, raw, result)
  end
end

-- queued and scheduled jobs past their deadline. Running ones are their worker's, or recovery's: they are looked at
-- again later, because a worker may hand them back, to a route that nobody serves.
local function expire(p, raw, sums, result)
  for _, id in ipairs(take_due(p .. 'Y', raw, result)) do
    local h = read_record(p .. 'j:' .. id, READ)
    local expires = is_record(h) and unpack_bytes('<I6', h, 57) or 0
    if is_newer(h) then
      call('ZADD', p .. 'Y', raw + ASIDE_MS, id)
    elseif expires > raw then -- set aside by an older version, which could not read it
      call('ZADD', p .. 'Y', expires, id)
    else
      call('ZREM', p .. 'Y', id)
    end
    if expires > 0 and expires <= raw then
      local state = sub(h, 3, 3)
      if state == 's' then call('ZREM', p .. 'D', ticket_of(id, h, unpack_bytes('<I2', h, 5))) end
      if state == 'q' or state == 's' or state == 'b' then
        end_job(p, id, h, 'E', EXPIRED, raw, sums)
        result.expired = result.expired + 1
      elseif state == 'r' then
        call('ZADD', p .. 'Y', raw + DEADLINE_AGAIN_MS, id)
      end
    end
  end
end

-- sweep: ARGV[1] is how old, in ms, somebody's last sweep must be, else only the clocks tick. Answers Redis' time, counts
-- of recovered, promoted and expired jobs, ms until the next due job (-1: none), more to do 0/1.
function verbs.sweep(keys, args)
  local raw, sums, gap = now_ms(), {}, tonumber(args[1])
  local result = {recovered = 0, promoted = 0, expired = 0, due = 1e12, left = LIMIT_SWEEP, has_more = false}
  local shard = prefixes(keys)
  local last = tonumber(call('GET', LAST_SWEEP) or 0)
  local is_full = raw - last >= gap or raw < last
  if is_full then call('SET', LAST_SWEEP, raw) end
  for n = 1, #shard do
    -- Another shard is the first each time, so that none waits for ever behind a busy one.
    local p = shard[(raw + n) % #shard + 1]
    local logical = logical_ms(p, raw)
    if is_full then
      for _, member in ipairs(take_due(p .. 'L', logical, result)) do
        local done = recover_one(p, member, raw, sums)
        if done then
          result.recovered = result.recovered + 1
        elseif done == nil then
          call('ZADD', p .. 'L', 'XX', logical + ASIDE_MS, member)
        end
      end
      promote(p, raw, sums, result)
      near_deadlines(p, raw, result)
      expire(p, raw, sums, result)
    end
  end
  write_sums(sums)
  if result.recovered + result.promoted > 0 then wake(nil) end
  return {raw, result.recovered, result.promoted, result.expired, result.due < 1e12 and result.due or -1,
          result.has_more and 1 or 0}
end
