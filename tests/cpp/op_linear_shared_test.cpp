// linear() of products that read the same weight: read together, they give what each gives alone.
#include "op_product.h"

using namespace op_testing;

namespace {

// Products of one weight: the first one's.
class Shared {
public:
    Shared(DType dtype, const std::vector<std::int64_t>& rows, std::int64_t n, std::int64_t k, Random& random) {
        for (const std::int64_t m : rows) products_.emplace_back(dtype, Sizes{m, n, k}, random);
    }

    Product& at(std::size_t i) { return products_[i]; }
    LinearArgs args(std::size_t i) const {
        LinearArgs args = products_[i].args();
        args.weight = products_.front().weight.view();
        return args;
    }
    std::vector<LinearArgs> args() const {
        std::vector<LinearArgs> all;
        for (std::size_t i = 0; i < products_.size(); ++i) all.push_back(args(i));
        return all;
    }

    void check() const {
        for (const Product& product : products_) check_product(product, products_.front().weight);
    }
    // The same bits as alone, which linear() promises on the CPU.
    void check_bits() const {
        for (std::size_t i = 0; i < products_.size() && !on_cuda(); ++i) {
            const TestMatrix alone(products_[i].x.rows(), products_[i].out.cols(), 2);
            LinearArgs one = args(i);
            one.out = alone.view();
            backend(5).linear(one);
            CHECK(same_bits(alone, products_[i].out));
        }
    }

private:
    std::vector<Product> products_;
};

void check_shared(const Shared& shared) {
    backend().linear(shared.args());
    shared.check();
    shared.check_bits();
}

}  // namespace

OP_TEST(products_of_one_weight_are_read_together) {
    Random random(1);
    for (const DType dtype : kWeightTypes) {
        for (std::int64_t first = 1; first <= 15; first += 2) check_shared(Shared(dtype, {first, 1}, 37, 48, random));
        for (const std::vector<std::int64_t>& rows : std::vector<std::vector<std::int64_t>>{{1, 15},
                                                                                            {8, 8},
                                                                                            {9, 8},
                                                                                            {20, 9},
                                                                                            {9, 20},
                                                                                            {33, 1},
                                                                                            {30, 40},
                                                                                            {1, 2, 3},
                                                                                            {5, 0, 4},
                                                                                            {0, 3},
                                                                                            {70, 30, 130}}) {
            check_shared(Shared(dtype, rows, 41, 80, random));
        }
        check_shared(Shared(dtype, {3, 12}, 21, 3104, random));  // more columns than lie in shared memory at a time
        check_shared(Shared(dtype, {1, 4}, 803, 1040, random));
    }
}

// What follows the sums is each product's own.
OP_TEST(products_of_one_weight_differ_in_what_follows) {
    Random random(2);
    for (const DType dtype : kWeightTypes) {
        for (const std::vector<std::int64_t>& rows : std::vector<std::vector<std::int64_t>>{{5, 7, 2}, {19, 3, 30}}) {
            Shared shared(dtype, rows, 40, 64, random);
            shared.at(0).has_residual = false;
            shared.at(0).activation = Activation::kGelu;
            shared.at(1).has_bias = false;
            shared.at(2).activation = Activation::kRelu;
            check_shared(shared);
        }
    }
}

// Rows of one buffer, as a device of many rows may take them: x behind x, outputs anywhere.
OP_TEST(products_of_one_weight_on_rows_of_one_buffer) {
    Random random(4);
    const std::vector<std::vector<std::int64_t>> cases{{20, 33}, {17, 40, 18}, {20, 9}};
    for (const DType dtype : kWeightTypes) {
        for (std::size_t c = 0; c < 2 * cases.size(); ++c) {
            const std::vector<std::int64_t>& rows = cases[c / 2];
            Shared shared(dtype, rows, 40, 64, random);
            const TestMatrix x(75, 64, random, 8);
            std::vector<LinearArgs> args;
            std::int64_t first = 0;
            for (std::size_t i = 0; i < rows.size(); ++i) {
                Product& product = shared.at(i);
                product.has_bias = c % 2 == 0;
                product.has_residual = i != 1;
                product.activation = i == 0 ? Activation::kRelu : Activation::kNone;
                for (std::int64_t m = 0; m < rows[i]; ++m) {
                    for (std::int64_t k = 0; k < 64; ++k) product.x.set(m, k, x.at(first + m, k));
                }
                args.push_back(shared.args(i));
                args.back().x = x.view().slice(first, rows[i]);
                first += rows[i];
            }
            backend().linear(args);
            shared.check();
        }
    }
}

// Among products of other weights and of the same x.
OP_TEST(products_of_one_weight_among_others) {
    Random random(3);
    Shared keys(DType::kBFloat16, {2, 9}, 24, 96, random), values(DType::kBFloat16, {2, 9}, 32, 96, random);
    const Product query(DType::kBFloat16, {2, 40, 96}, random);
    std::vector<LinearArgs> all{query.args(), keys.args(0), values.args(0), keys.args(1), values.args(1)};
    for (std::size_t i = 1; i < all.size(); ++i) all[i].x = i < 3 ? query.x.view() : keys.at(1).x.view();
    for (const std::size_t i : {0, 1}) {
        (i == 0 ? keys : values).at(0).x.copy_from(query.x);
        (i == 0 ? keys : values).at(1).x.copy_from(keys.at(1).x);
    }
    backend().linear(all);
    check_product(query);
    keys.check();
    values.check();
}
