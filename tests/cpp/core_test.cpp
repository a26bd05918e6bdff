// Element types.
#include <cmath>
#include <cstring>
#include <limits>

#include "core/dtype.h"
#include "core/error.h"
#include "harness.h"

using namespace lrengine;

TEST(every_dtype_has_a_size_and_a_name_that_reads_back) {
    for (int i = 0; i <= static_cast<int>(DType::kFloat64); ++i) {
        const auto dtype = static_cast<DType>(i);
        CHECK(size_of(dtype) >= 1 && size_of(dtype) <= 8);
        CHECK(dtype_from_name(name_of(dtype)) == dtype);
    }
    CHECK_EQUAL(size_of(DType::kBFloat16), 2u);
    CHECK_EQUAL(name_of(DType::kBFloat16), std::string_view("bfloat16"));
    CHECK_ERROR(dtype_from_name("float8"), ErrorCode::kInvalidArgument, "\"float8\"");
}

TEST(float16_reads_normals_subnormals_zeros_and_infinities) {
    CHECK_EQUAL(float16_to_float(0x3c00), 1.0f);
    CHECK_EQUAL(float16_to_float(0xc000), -2.0f);
    CHECK_EQUAL(float16_to_float(0x7bff), 65504.0f);
    CHECK_EQUAL(float16_to_float(0x0400), 0x1p-14f);
    CHECK_EQUAL(float16_to_float(0x0001), 0x1p-24f);
    CHECK_EQUAL(float16_to_float(0x83ff), -1023 * 0x1p-24f);
    CHECK(float16_to_float(0x8000) == 0.0f && std::signbit(float16_to_float(0x8000)));
    CHECK_EQUAL(float16_to_float(0x7c00), std::numeric_limits<float>::infinity());
    CHECK_EQUAL(float16_to_float(0xfc00), -std::numeric_limits<float>::infinity());
    CHECK(std::isnan(float16_to_float(0x7c01)) && std::isnan(float16_to_float(0xfe00)));
}

TEST(every_float16_survives_the_way_through_float32) {
    for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
        const auto half = static_cast<std::uint16_t>(bits);
        const float value = float16_to_float(half);
        if (std::isnan(value)) {
            CHECK(std::isnan(float16_to_float(float_to_float16(value))));
        } else {
            CHECK_EQUAL(float_to_float16(value), half);
        }
    }
}

TEST(float16_rounds_to_nearest_even) {
    CHECK_EQUAL(float_to_float16(1.0f + 0x1p-11f), 0x3c00);             // halfway: down to even
    CHECK_EQUAL(float_to_float16(1.0f + 3 * 0x1p-11f), 0x3c02);         // halfway: up to even
    CHECK_EQUAL(float_to_float16(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01);  // above halfway
    CHECK_EQUAL(float_to_float16(65519.99f), 0x7bff);
    CHECK_EQUAL(float_to_float16(65520.0f), 0x7c00);  // halfway to 2^16: Inf
    CHECK_EQUAL(float_to_float16(0x1p-25f), 0x0000);  // half of the least subnormal: to even
    CHECK_EQUAL(float_to_float16(0x1.8p-25f), 0x0001);
    CHECK_EQUAL(float_to_float16(3 * 0x1p-25f), 0x0002);
    CHECK_EQUAL(float_to_float16(std::nextafter(0x1p-14f, 0.0f)), 0x0400);  // up into the normals
    CHECK_EQUAL(float_to_float16(-std::numeric_limits<float>::infinity()), 0xfc00);
}

TEST(bfloat16_rounds_to_nearest_even_and_keeps_nan) {
    CHECK_EQUAL(float_to_bfloat16(1.0f), 0x3f80);
    CHECK_EQUAL(float_to_bfloat16(1.0f + 0x1p-8f), 0x3f80);
    CHECK_EQUAL(float_to_bfloat16(1.0f + 3 * 0x1p-8f), 0x3f82);
    CHECK_EQUAL(float_to_bfloat16(1.0f + 0x1p-8f + 0x1p-20f), 0x3f81);
    CHECK_EQUAL(float_to_bfloat16(std::numeric_limits<float>::max()), 0x7f80);
    std::uint32_t bits = 0x7f800001;  // a NaN whose payload is in the bits that go
    float nan;
    std::memcpy(&nan, &bits, sizeof nan);
    CHECK(std::isnan(bfloat16_to_float(float_to_bfloat16(nan))));
    CHECK_EQUAL(bfloat16_to_float(0xc040), -3.0f);
}
