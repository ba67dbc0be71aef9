// The shapes of the eight AMX tiles, as all kernels use them.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace fxq {
namespace {

// Tiles 0-5 (sums and pixels) have `height` rows, 6 and 7 (weights) 16, all of 64 bytes.
__attribute__((target("amx-tile"))) inline void configure_tiles(int32_t height) {
  struct alignas(64) {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } tiles = {};
  tiles.palette = 1;
  for (int32_t i = 0; i < 8; i++) tiles.bytes[i] = 64, tiles.rows[i] = uint8_t(i < 6 ? height : 16);
  asm volatile("" : : "r"(&tiles) : "memory");  // gcc 12 thinks that 8 bytes are read, not 64
  _tile_loadconfig(&tiles);
}

}  // namespace
}  // namespace fxq
