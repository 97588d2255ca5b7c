-- finish: running -> succeeded. fail: running -> failed or expired.
--
-- ARGV: number of pieces, their time to live in ms, then three arguments a job: shard index u8 + member 64, the
-- whole new record, its time to live in ms; then the pieces of the result. Where there are pieces there is one job.
-- (A plain SET before would be refused by a store that is full, which must still take results.) Answers one
-- letter a job: k recorded, a recorded before by the same claim, f fenced, x not a state of this verb (both:
-- nothing written).

-- Whose job is it? 'k' ours and running (the lease is gone then), 'a' ended by this very commit before, 'f' not ours.
local function own(p, h, member, is_repeat)
  if not is_record(h) then return 'f' end
  local _, state, _, claim, _, _, _, token = unpack_bytes(MUTABLE, h, 2)
  if claim ~= unpack_bytes('<I2', member, 47) or token ~= sub(member, 49) then return 'f' end
  if state == 'r' then return call('ZREM', p .. 'L', member) == 1 and 'k' or 'f' end
  return is_repeat(state, byte(h, 41)) and 'a' or 'f'
end

local function commit(keys, args, allowed)
  local shard, codes, sums = prefixes(keys), {}, {}
  local pieces, piece_ttl = tonumber(args[1]), args[2]
  for i = 3, #args - pieces, 3 do
    local p, member, record = shard[byte(args[i])], sub(args[i], 2), args[i + 1]
    local id, next_state = sub(member, 2, 35), sub(record, 3, 3)
    local key = p .. 'j:' .. id
    local h = call('GETRANGE', key, 0, READ)
    local code = 'x'
    if allowed[next_state] then
      code = own(p, h, member, function(state, verdict) return state == next_state and verdict == 0 end)
    end
    if code == 'k' then
      local _, _, flags, claim, attempt, _, sequence = unpack_bytes(MUTABLE, h, 2)
      local new_flags = bor(byte(record, 4), band(flags, FOLLOWED + SUSPECT))
      sequence = sequence + 1
      record = sub(record, 1, 3) .. char(new_flags) .. sub(record, 5, 8) .. pack('<I4', sequence) .. sub(record, 13)
      for n = 1, pieces do
        call('SET', p .. 'r:' .. id .. ':' .. claim .. ':' .. n - 1, args[#args - pieces + n], 'PX', piece_ttl)
      end
      if next_state ~= 'S' then keep_request(p, id, h) end
      call('SET', key, record, 'PX', args[i + 2])
      if next_state == 'S' and band(flags, PIECES) ~= 0 then
        for n = 0, unpack_bytes('<I2', h, 63) - 1 do call('UNLINK', p .. 'b:' .. id .. ':' .. n) end
      end
      if attempt > 0 then call('UNLINK', p .. 't:' .. id) end
      add_live(sums, p, sub(h, 93, 98), -1, -live_bytes(h))
      add(sums, p .. 'c:' .. route_of(record), allowed[next_state], 1)
      if band(new_flags, FOLLOWED + HOME) ~= 0 then tell(p, id, new_flags, sequence, record) end
    end
    codes[#codes + 1] = code
  end
  write_sums(sums)
  return table.concat(codes)
end

function verbs.finish(keys, args)
  return commit(keys, args, {S = 'succeeded'})
end

function verbs.fail(keys, args)
  return commit(keys, args, {F = 'failed', E = 'expired'})
end

-- A retry or release that was applied before: the claim and its token still stand in the record.
local function went_back(state)
  return state == 's' or state == 'q'
end

-- retry: running -> scheduled. Arguments a job: shard index + member, due ms, the attempt to be kept.
function verbs.retry(keys, args)
  local shard, codes, sums = prefixes(keys), {}, {}
  for i = 1, #args, 3 do
    local p, member, due = shard[byte(args[i])], sub(args[i], 2), tonumber(args[i + 1])
    local id = sub(member, 2, 35)
    local h = call('GETRANGE', p .. 'j:' .. id, 0, READ)
    local code = own(p, h, member, went_back)
    if code == 'k' then
      local _, _, flags, claim, attempt, crashes, sequence, token, started = unpack_bytes(MUTABLE, h, 2)
      local list, expires = p .. 't:' .. id, unpack_bytes('<I6', h, 57)
      attempt, sequence = min(attempt + 1, 255), sequence + 1
      call('SETRANGE', p .. 'j:' .. id, 2,
           pack('<c1BI2BBI4c16I6I6', 's', flags, claim, attempt, crashes, sequence, token, started, due))
      call('ZADD', p .. 'D', due, ticket_of(id, h, claim))
      call('RPUSH', list, args[i + 2])
      if expires > 0 then call('PEXPIREAT', list, expires + LIMIT_RECORD_AFTER_RESULT_S * 1000) end
      add(sums, p .. 'c:' .. stored_route(p, id, h), 'retried', 1)
      tell_change(p, id, flags, sequence)
    end
    codes[#codes + 1] = code
  end
  write_sums(sums)
  return table.concat(codes)
end

-- release: running -> queued, at the front, nothing counted. One argument a job.
function verbs.release(keys, args)
  local shard, codes, has_ready = prefixes(keys), {}, false
  for i = 1, #args do
    local p, member = shard[byte(args[i])], sub(args[i], 2)
    local id = sub(member, 2, 35)
    local h = call('GETRANGE', p .. 'j:' .. id, 0, READ)
    local code = own(p, h, member, went_back)
    if code == 'k' then
      requeue(p, id, h, {raw = now_ms(), to_front = true})
      has_ready = true
    end
    codes[#codes + 1] = code
  end
  if has_ready then wake(nil) end
  return table.concat(codes)
end
