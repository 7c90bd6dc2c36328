-- wrk script: sends the requests of a file in turn, each with a number of its own where it asks for one.
-- Arguments: file, first number. Prints one line of JSON.
local threads = 0
local unique = string.rep("@", 12)

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  local file = assert(io.open(args[1], "rb"))
  local text = file:read("*a")
  file:close()
  requests = {}
  for request in string.gmatch(text, "[^%z]+") do
    local parts, from = {}, 1
    while true do
      local start, finish = string.find(request, unique, from, true)
      if not start then break end
      parts[#parts + 1] = string.sub(request, from, start - 1)
      from = finish + 1
    end
    parts[#parts + 1] = string.sub(request, from)
    requests[#requests + 1] = parts
  end
  counter = tonumber(args[2]) + number * 1e8
  position = math.floor(#requests * (number * 0.5 + (tonumber(args[2]) / 1e9 % 7) / 14))
end

function request()
  position = position + 1
  counter = counter + 1
  local parts = requests[(position - 1) % #requests + 1]
  if #parts == 1 then return parts[1] end
  return table.concat(parts, string.format("%012d", counter))
end

function done(summary, latency, all)
  local e = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.6f, "p50": %.4f, "p99": %.4f, "max": %.4f, "errors": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, e.connect + e.read + e.write + e.status + e.timeout))
end
