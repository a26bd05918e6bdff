// out = activation(x W^T + bias) + residual, for every weight type, against a float64 twin.
#include "op_product.h"

using namespace op_testing;

OP_TEST(linear_at_odd_sizes) {
    Random random(1);
    const std::vector<std::int64_t> all{1, 2, 3, 4, 5, 6, 7, 13}, few{1, 3, 6, 13};
    for (const DType dtype : kWeightTypes) {
        for (const std::int64_t k : {1, 3, 8, 15, 16, 17, 31, 33, 64, 100, 257}) {
            for (const std::int64_t m : on_cuda() ? few : all) {
                Product product(dtype, {m, random.integer(1, 40), k}, random);
                backend().linear(product.args());
                check_product(product);
            }
        }
    }
}

OP_TEST(linear_with_many_rows_and_outputs) {
    Random random(2);
    for (const DType dtype : kWeightTypes) {
        for (const Sizes sizes : {Sizes{70, 301, 48}, Sizes{9, 1100, 40}, Sizes{2, 700, 133}, Sizes{200, 9, 1601}}) {
            Product product(dtype, sizes, random);
            backend().linear(product.args());
            check_product(product);
        }
    }
}

// Rows that can be read in words of 16 bytes, as a model's are.
OP_TEST(linear_over_aligned_rows) {
    Random random(9);
    for (const DType dtype : kWeightTypes) {
        for (const Sizes sizes : {Sizes{1, 64, 256}, Sizes{5, 72, 128}, Sizes{17, 136, 64}, Sizes{40, 32, 512}}) {
            const Product product(dtype, sizes, random, 8);
            backend().linear(product.args());
            check_product(product);
        }
    }
}

OP_TEST(linear_applies_every_activation_with_and_without_bias_and_residual) {
    Random random(3);
    for (const Activation activation : kActivations) {
        for (const bool bias : {false, true}) {
            for (const bool residual : {false, true}) {
                Product product(DType::kFloat32, {3, 21, 30}, random);
                product.activation = activation;
                product.has_bias = bias;
                product.has_residual = residual;
                backend().linear(product.args());
                check_product(product);
            }
        }
    }
}

OP_TEST(linear_may_write_over_its_residual) {
    Random random(4);
    Product product(DType::kBFloat16, {7, 150, 33}, random);
    backend().linear(product.args());
    LinearArgs in_place = product.args();
    in_place.out = product.residual.view();
    backend().linear(in_place);
    CHECK(same_bits(product.residual, product.out));
}

// The promise of linear.h: alone or in any batch, with any number of threads, in any job.
CPU_TEST(linear_gives_the_same_bits_in_any_batch, "linear.h promises it for the CPU alone") {
    Random random(5);
    for (const DType dtype : kWeightTypes) {
        for (const std::int64_t k : {48, 77, 1601}) {  // the last is more than a stretch
            Product product(dtype, {40, 203, k}, random);
            product.activation = Activation::kGelu;
            backend(2).linear(product.args());
            for (const int threads : thread_counts()) {
                for (const std::int64_t rows : {1, 2, 3, 4, 5, 6, 7, 11, 15, 40}) {
                    const std::int64_t first = random.integer(0, 40 - rows);
                    const TestMatrix part(rows, 203, 2);
                    LinearArgs args = product.args();
                    args.x = args.x.slice(first, rows);
                    args.residual = args.residual.slice(first, rows);
                    args.out = part.view();
                    backend(threads).linear(args);
                    for (std::int64_t r = 0; r < rows; ++r) CHECK(same_bits(part, r, product.out, first + r));
                }
            }
        }
    }
}

OP_TEST(linear_runs_several_products_as_one_job) {
    Random random(6);
    std::vector<Product> products;
    products.emplace_back(DType::kFloat32, Sizes{5, 33, 40}, random);
    products.emplace_back(DType::kInt8, Sizes{1, 7, 129}, random);
    products.emplace_back(DType::kBFloat16, Sizes{8, 120, 16}, random);
    products.emplace_back(DType::kFloat16, Sizes{3, 1, 64}, random);
    std::vector<LinearArgs> args;
    for (const Product& product : products) args.push_back(product.args());
    for (const int threads : thread_counts()) {
        backend(threads).linear(args);
        for (const Product& product : products) check_product(product);
    }
}

OP_TEST(linear_takes_no_rows_and_no_products) {
    Random random(7);
    const Product product(DType::kFloat32, {0, 9, 5}, random);
    backend().linear(product.args());
    backend().linear(std::span<const LinearArgs>());
    CHECK(product.out.is_written_exactly());
}

OP_TEST(linear_refuses_shapes_that_do_not_fit) {
    Random random(8);
    const Product product(DType::kFloat32, {2, 9, 5}, random);
    LinearArgs args = product.args();
    args.x.cols = 4;
    CHECK_ERROR(backend().linear(args), ErrorCode::kInternal, "x is not [M, K]");
    args = product.args();
    args.out.rows = 1;
    CHECK_ERROR(backend().linear(args), ErrorCode::kInternal, "out is not [M, N]");
    args = product.args();
    args.bias.size = 8;
    CHECK_ERROR(backend().linear(args), ErrorCode::kInternal, "bias is not [N]");
    args = product.args();
    args.weight.dtype = DType::kInt8;
    CHECK_ERROR(backend().linear(args), ErrorCode::kInternal, "without scales");
    const Product groups(DType::kInt4, {2, 9, 64}, random);
    args = groups.args();
    args.weight.group_scales = nullptr;
    CHECK_ERROR(backend().linear(args), ErrorCode::kInternal, "without scales");
    for (const std::int64_t size : {0, 16, 48, 256}) {
        args = groups.args();
        args.weight.group_size = size;
        CHECK_ERROR(backend().linear(args), ErrorCode::kInternal, "whole blocks and groups");
    }
    args = groups.args();
    args.weight.cols = args.x.cols = 48;
    CHECK_ERROR(backend().linear(args), ErrorCode::kInternal, "whole blocks and groups");
}
