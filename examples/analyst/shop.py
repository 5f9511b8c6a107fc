"""A lamp shop's database, made up: two years of orders, the same on every machine.

Something happens in it: from July 2026 on, desk lamps hardly sell in the north any more.
`python -m agent.shop` writes it to `shop.db`.
"""

import random
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import apsw

SHOP = Path("shop.db")
ORDERS = 6_000
FIRST_DAY = date(2024, 10, 1)
DAYS = 730  # the last day is 30 September 2026
BREAK = date(2026, 7, 1)

CATEGORIES = {"Desk lamps": 128.0, "Floor lamps": 149.0, "Pendants": 95.0, "Bulbs": 7.5}
REGIONS = {"North": 0.34, "South": 0.28, "East": 0.22, "West": 0.16}

SCHEMA = """
CREATE TABLE customers (id INTEGER PRIMARY KEY, name TEXT NOT NULL, region TEXT NOT NULL);
CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, category TEXT NOT NULL,
                       price REAL NOT NULL);
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers,
                     ordered_on TEXT NOT NULL, quarter TEXT NOT NULL);
CREATE TABLE order_lines (order_id INTEGER NOT NULL REFERENCES orders,
                          product_id INTEGER NOT NULL REFERENCES products,
                          quantity INTEGER NOT NULL, price REAL NOT NULL);
CREATE INDEX order_lines_order ON order_lines (order_id);
"""


def build(path: Path = SHOP, seed: int = 7) -> Path:
    """Write the database, unless it is there; the same seed gives the same rows."""
    if path.exists():
        return path
    draw = random.Random(seed)
    unfinished = path.with_suffix(".tmp")
    unfinished.unlink(missing_ok=True)
    shop = apsw.Connection(str(unfinished))
    with shop:
        shop.execute(SCHEMA)
        regions = dict(
            enumerate(draw.choices(list(REGIONS), list(REGIONS.values()), k=400), start=1)
        )
        shop.executemany(
            "INSERT INTO customers VALUES (?, ?, ?)",
            [(id_, f"Customer {id_:03}", region) for id_, region in regions.items()],
        )
        products = list(_products(draw))
        shop.executemany("INSERT INTO products VALUES (?, ?, ?, ?)", products)
        for order in range(1, ORDERS + 1):
            customer = draw.randint(1, len(regions))
            day = FIRST_DAY + timedelta(days=draw.randrange(DAYS))
            row = (order, customer, day.isoformat(), f"{day.year}-Q{(day.month + 2) // 3}")
            shop.execute("INSERT INTO orders VALUES (?, ?, ?, ?)", row)
            for product in _basket(draw, products, regions[customer], day):
                line = (order, product[0], draw.randint(1, 3), product[3])
                shop.execute("INSERT INTO order_lines VALUES (?, ?, ?, ?)", line)
    shop.close()
    return unfinished.rename(path)


Product = tuple[int, str, str, float]


def _products(draw: random.Random) -> Iterator[Product]:
    for number in range(1, 41):
        category = list(CATEGORIES)[number % len(CATEGORIES)]
        price = round(CATEGORIES[category] * draw.uniform(0.7, 1.4), 2)
        yield number, f"{category[:-1]} {number:02}", category, price


def _basket(
    draw: random.Random, products: list[Product], region: str, day: date
) -> Iterator[Product]:
    for product in draw.sample(products, k=draw.randint(1, 4)):
        is_hit = day >= BREAK and region == "North" and product[2] == "Desk lamps"
        if not is_hit or draw.random() < 0.12:
            yield product


if __name__ == "__main__":
    print(f"{build()} holds {ORDERS:,} orders.")
