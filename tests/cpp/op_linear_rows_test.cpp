// linear() by the number of rows: few rows and many take different ways on a GPU.
#include <span>

#include "op_product.h"

using namespace op_testing;

namespace {

void check_linear(const Product& product) {
    backend().linear(product.args());
    check_product(product);
}

}  // namespace

OP_TEST(linear_of_every_number_of_rows) {
    Random random(1);
    for (const DType dtype : kWeightTypes) {
        for (std::int64_t rows = 1; rows <= 17; ++rows) check_linear(Product(dtype, {rows, 37, 48}, random));
        // Columns that many warps share, with a last piece that is not whole.
        for (const std::int64_t rows : {1, 2, 3, 5, 16, 33}) check_linear(Product(dtype, {rows, 41, 1072}, random));
    }
}

// More columns than fit in shared memory with 16 rows.
OP_TEST(linear_of_few_rows_and_very_many_columns) {
    Random random(2);
    for (const DType dtype : kWeightTypes) check_linear(Product(dtype, {11, 9, 3104}, random));
}

OP_TEST(linear_of_few_rows_and_many_outputs) {
    Random random(3);
    for (const DType dtype : kWeightTypes) {
        check_linear(Product(dtype, {2, 5003, 32}, random));
        // Several turns of a block whose warps share outputs.
        check_linear(Product(dtype, {1, 803, 1040}, random));
    }
}

// In one launch on a GPU, or two when they are very many.
OP_TEST(linear_of_several_products_of_few_rows) {
    Random random(4);
    const Product first(DType::kBFloat16, {3, 70, 96}, random);
    std::vector<Product> products;
    for (std::int64_t i = 0; i < 19; ++i) {
        const DType dtype = i % 7 == 6 ? DType::kInt8 : DType::kBFloat16;
        products.emplace_back(dtype, Sizes{1 + i % 5, 1 + 13 * i, 96 + i % 3 * 272}, random);
    }
    std::vector<LinearArgs> args;
    for (const Product& product : products) args.push_back(product.args());
    backend().linear(args);
    for (const Product& product : products) check_product(product);
    // q, k and v: one x.
    const TestMatrix k(3, 22, 1), v(3, 22, 1);
    const TestWeight k_weight(DType::kBFloat16, 22, 96, random), v_weight(DType::kBFloat16, 22, 96, random);
    const LinearArgs heads[] = {first.args(),
                                {first.x.view(), k_weight.view(), {}, {}, k.view()},
                                {first.x.view(), v_weight.view(), {}, {}, v.view()}};
    backend().linear(heads);
    check_product(first);
    const auto twin = [&](const TestWeight& weight) {
        return [&](std::int64_t m, std::int64_t n) {
            double sum = 0;
            for (std::int64_t c = 0; c < 96; ++c) sum += first.x.at(m, c) * weight.at(n, c);
            return sum;
        };
    };
    check_close(k, 1e-5, twin(k_weight));
    check_close(v, 1e-5, twin(v_weight));
}

OP_TEST(linear_gives_a_row_the_same_bits_among_any_few) {
    Random random(5);
    for (const DType dtype : kWeightTypes) {
        const Product product(dtype, {16, 53, 1600}, random);
        backend().linear(product.args());
        for (const std::int64_t rows : {1, 2, 3, 7}) {
            const TestMatrix part(rows, 53, 2);
            LinearArgs args = product.args();
            args.x = args.x.slice(5, rows);
            args.residual = args.residual.slice(5, rows);
            args.out = part.view();
            backend().linear(args);
            for (std::int64_t r = 0; r < rows; ++r) CHECK(same_bits(part, r, product.out, 5 + r));
        }
    }
}

OP_TEST(linear_of_many_rows_with_every_activation_bias_and_residual) {
    Random random(6);
    for (const DType dtype : kWeightTypes) {
        for (const Activation activation : kActivations) {
            for (const int parts : {0, 1, 2, 3}) {
                Product product(dtype, {19, 24, 32}, random, parts == 3 ? 3 : 8);
                product.activation = activation;
                product.has_bias = (parts & 1) != 0;
                product.has_residual = (parts & 2) != 0;
                check_linear(product);
            }
        }
    }
}

OP_TEST(linear_of_many_rows_may_add_to_its_residual) {
    Random random(7);
    for (const DType dtype : kWeightTypes) {
        for (const bool bias : {false, true}) {
            Product product(dtype, {21, 40, 64}, random, 8);
            product.has_bias = bias;
            check_linear(product);
            LinearArgs in_place = product.args();
            in_place.out = product.residual.view();
            backend().linear(in_place);
            check_close(product.residual, 1e-5, [&](std::int64_t m, std::int64_t n) { return product.out.at(m, n); });
        }
    }
}

// Arguments may be of any types, each of its own. On the CPU all are float32.
OP_TEST(linear_of_mixed_types) {
    Random random(8);
    if (!on_cuda()) return check_linear(Product(DType::kFloat16, {4, 40, 64}, random));
    constexpr DType kTypes[] = {DType::kFloat32, DType::kBFloat16, DType::kFloat16};
    for (const DType dtype : kWeightTypes) {
        for (const DType x : kTypes) {
            for (const DType out : kTypes) {
                for (const std::int64_t rows : {4, 20}) {
                    activation_type() = x;
                    Product product(dtype, {rows, 40, 64}, random, 8);
                    product.has_residual = false;
                    const TestMatrix residual(rows, 40, random, 4, DType::kFloat32), mixed(rows, 40, 8, out);
                    LinearArgs args = product.args();
                    args.residual = residual.view();
                    args.out = mixed.view();
                    backend().linear(args);
                    check_close(mixed, 1e-5, [&](std::int64_t m, std::int64_t n) {
                        return product.expected(m, n) + residual.at(m, n);
                    });
                }
            }
        }
    }
}

// mT5's activations reach 1e5: a float16 weight must not squeeze them into float16.
OP_TEST(linear_of_a_float16_weight_takes_large_inputs) {
    Random random(9);
    for (const std::int64_t rows : {2, 20}) {
        const TestMatrix x(rows, 64, 8, DType::kFloat32), out(rows, 24, 8, DType::kFloat32);
        const TestWeight weight(DType::kFloat16, 24, 64, random);
        for (std::int64_t m = 0; m < rows; ++m) {
            for (std::int64_t k = 0; k < 64; ++k) {
                x.set(m, k, random.uniform(-1.0f, 1.0f) * (m == 1 ? 2e-7f : m == 0 ? 3e5f : 1.0f));
            }
        }
        backend().linear({x.view(), weight.view(), {}, {}, out.view()});
        CHECK(out.is_written_exactly());
        for (std::int64_t m = 0; m < rows; ++m) {
            for (std::int64_t n = 0; n < 24; ++n) {
                double sum = 0, size = 0;
                for (std::int64_t k = 0; k < 64; ++k) {
                    sum += x.at(m, k) * weight.at(n, k);
                    size += std::abs(x.at(m, k) * weight.at(n, k));
                }
                CHECK(std::abs(out.at(m, n) - sum) <= 1e-6 * size);
            }
        }
    }
}
