-- Registers the verbs of a library; as a script, runs the one that the first argument names.
local function enter(verb, keys, args)
  call, pack, unpack_bytes, band, bor = redis.call, struct.pack, struct.unpack, bit.band, bit.bor
  sub, byte, char, floor, min, max = string.sub, string.byte, string.char, math.floor, math.min, math.max
  return verb(keys, args)
end

if function_prefix then
  for i = 1, #verb_names do
    local name = verb_names[i]
    redis.register_function{
      function_name = function_prefix .. name,
      callback = function(keys, args) return enter(verbs[name], keys, args) end,
      flags = verb_flags[name] or (name ~= 'submit' and {'allow-oom'} or {})
    }
  end
  return
end

return enter(verbs[table.remove(ARGV, 1)], KEYS, ARGV)
