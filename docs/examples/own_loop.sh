#!/bin/sh
# Your own loop in a shell script: `autotune ask` prints a config, `autotune tell` takes its time.
# A script that was killed goes on where it was when it is started again; several may run at once in one directory.
#     sh docs/examples/own_loop.sh
set -eu

cat > tiles.space.json << 'SPACE'
{
  "parameters": {
    "tile": {"type": "power_of_two", "low": 8, "high": 256},
    "stages": {"type": "integer", "low": 1, "high": 6},
    "swizzle": {"type": "boolean"}
  },
  "constraints": ["tile * stages <= 512"],
  "default": {"tile": 32, "stages": 1, "swizzle": false}
}
SPACE

# It stands for your program, which may be in any language: it takes a config and prints its time in milliseconds.
program() {
  awk -v tile="$1" -v stages="$2" -v swizzle="$3" 'BEGIN {
    if (tile == 256 && swizzle == "true") { print "too many registers" > "/dev/stderr"; exit 1 }
    print 1 + (tile > 64 ? tile - 64 : 64 - tile) / 64 + (stages > 4 ? stages - 4 : 4 - stages) / 4
  }'
}

while assignments=$(autotune ask tiles.jsonl --space tiles.space.json --evaluations 20 --format shell); do
  eval "$assignments" # sets tile, stages and swizzle, and AUTOTUNE_CONFIG for `tell`
  if time_ms=$(program "$tile" "$stages" "$swizzle"); then
    autotune tell tiles.jsonl "$AUTOTUNE_CONFIG" --time-ms "$time_ms"
  else
    autotune tell tiles.jsonl "$AUTOTUNE_CONFIG" --failed "the program failed"
  fi
done
autotune show tiles.jsonl
