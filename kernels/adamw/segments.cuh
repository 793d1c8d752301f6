// The walk over the segment table on a device. Nothing checks the rows before (the table lies in the device's memory): a row that does not
// lie inside the arena whole, or names no slot, is passed over whole. Whatever the table says, nothing outside the arena is touched.
#pragma once
#include "kernels/adamw/segments.h"
#include "kernels/cuda/runtime.h"

namespace theia::THEIA_DEVICE {

struct SegmentTable {
  const int64_t* rows;  // [count,4]
  const float* slots;   // [slot_count,4]
  int64_t count, slot_count;
  int64_t total;  // elements of the arena
};

inline SegmentTable segment_table(const Tensor& segments, const Tensor& slots, int64_t total) {
  return {segments.ptr<int64_t>(), slots.ptr<float>(), segments.size[0], slots.size[0], total};
}

/// Every thread of a block walks by itself: the loads are the same for all, and no barrier stands between the pieces.
class DeviceWalk {
 public:
  __device__ DeviceWalk(const SegmentTable& table, int64_t begin, int64_t end) : table_(table), begin_(begin), end_(end) {
    // The first row that starts behind `begin`; the one before it may reach in.
    int64_t low = 0, high = table.count;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (table.rows[middle * kSegmentColumns] <= begin)
        low = middle + 1;
      else
        high = middle;
    }
    at_ = low > 0 ? low - 1 : 0;
  }

  /// The next piece that is enabled and not empty; false at the end.
  __device__ bool next(SegmentPiece& piece) {
    while (at_ < table_.count) {
      const int64_t* const row = table_.rows + at_ * kSegmentColumns;
      const int64_t offset = row[0], length = row[1], slot = row[3];
      if (offset >= end_) return false;
      at_ += 1;
      if (offset < 0 || length < 0 || length > table_.total - offset || slot < 0 || slot >= table_.slot_count) continue;
      if (table_.slots[slot * kSegmentColumns + 3] == 0) continue;
      const int64_t last = offset + length;
      piece = {offset > begin_ ? offset : begin_, last < end_ ? last : end_, slot, row[2] != 0};
      if (piece.first < piece.last) return true;
    }
    return false;
  }

 private:
  const SegmentTable& table_;
  int64_t begin_, end_, at_;
};

}  // namespace theia::THEIA_DEVICE
