// The potential of a grid of charges: `compiler_flags.py` tunes how it is compiled. It prints a checksum and the time of
// each of five runs.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <vector>

#ifndef TILE
#define TILE 64
#endif

int main() {
  const int n = 2000;
  std::vector<float> x(n), y(n), charge(n), potential(n);
  for (int i = 0; i < n; ++i) {
    x[i] = 0.37f * (i % 53), y[i] = 0.61f * (i / 53), charge[i] = 1.0f + 0.01f * (i % 7);
  }
  for (int repeat = 0; repeat < 5; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < n; ++i) potential[i] = 0.0f;
    for (int tile = 0; tile < n; tile += TILE) {
      const int end = tile + TILE < n ? tile + TILE : n;
      for (int i = 0; i < n; ++i) {
        float sum = 0.0f;
        for (int j = tile; j < end; ++j) {
          const float dx = x[i] - x[j], dy = y[i] - y[j];
          sum += charge[j] / std::sqrt(dx * dx + dy * dy + 0.25f);
        }
        potential[i] += sum;
      }
    }
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
    std::printf("time %.6f ms\n", took.count());
  }
  double total = 0.0;
  for (int i = 0; i < n; ++i) total += potential[i];
  std::printf("total %.6e\n", total);
}
