"""The command line of staff against a running shop: live together, on every worker, and read back."""

import json

import httpx


def test_on_a_real_shop_prices_in_a_file_are_live_together(stack, tmp_path):
    found = httpx.get(f"{stack.origin}/api/v1/eu-eur/products", trust_env=False).json()
    skus = [product["sku"] for product in found["products"][1:4]]
    file = tmp_path / "sale.csv"
    file.write_text("sku,amount\n" + "".join(f"{sku},9.8{number}\n" for number, sku in enumerate(skus)))
    done = stack.nearshelf("price", "batch", str(file), "--market", "eu-eur", "--reason", "a test", "--json")
    report = json.loads(done.stdout)["report"]
    assert (report["state"], report["changes_total"]) == ("live", 3)
    assert [change["subject"] for change in report["changes"]] == [f"eu-eur/{sku}" for sku in skus]
    file.write_text(f"sku,amount\n{skus[0]},9.80\nNO-SUCH,1.00\n{skus[1]},9,80\n")
    refused = stack.nearshelf("price", "batch", str(file), "--market", "eu-eur", check=False)
    assert refused.returncode == 2
    assert f"{file}:4:" in refused.stderr
    file.write_text(f"sku,amount\n{skus[0]},9.80\nNO-SUCH,1.00\n")
    refused = stack.nearshelf("price", "batch", str(file), "--market", "eu-eur", check=False)
    assert f"{file}:3:1: sku: unknown SKU 'NO-SUCH'" in refused.stderr


def test_on_a_real_shop_a_price_becomes_live_on_every_worker_and_is_read_back(stack):
    found = httpx.get(f"{stack.origin}/api/v1/eu-eur/products", trust_env=False).json()
    sku = found["products"][0]["sku"]
    done = stack.nearshelf("price", "set", sku, "--market", "eu-eur", "12.34", "--reason", "a test", "--wait", "--json")
    document = json.loads(done.stdout)
    assert document["report"]["state"] == "live"
    assert sorted(worker["edge"] for worker in document["report"]["workers"]) == ["ap", "ap", "eu", "eu", "us", "us"]
    assert {read["edge"]: read["amount"] for read in document["report"]["read_back"]} == dict.fromkeys(
        ("ap", "eu", "us"), "12.34"
    )
    refused = stack.nearshelf("price", "set", sku, "--market", "eu-eur", "12,34", check=False)
    assert refused.returncode == 2
