"""The benches of the store, with little in it: they run, and say whether the aim was met."""

from __future__ import annotations

import shutil
import subprocess
import sys

import pytest

pytestmark = pytest.mark.alone

needs_two_cores = pytest.mark.skipif(
    shutil.which("taskset") is None or shutil.which("varnishd") is None, reason="needs taskset and varnishd"
)


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtests.bench", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False)


def test_eviction_is_compared_and_a_crawl_leaves_the_hot_set():
    run = bench(*["eviction", "--objects", "2000", "--requests", "10000", "--keys", "4000", "--store-mb", "8"])
    assert run.returncode in {0, 1}, run.stderr
    assert "| trace | room for | LRU | LFU | SIEVE | S3-FIFO, ours |" in run.stdout
    assert "- met: hits of the hot set that are kept: 1.00" in run.stdout
    assert "memory that the store took, to its budget" in run.stdout


@needs_two_cores
def test_memory_is_compared_with_varnish():
    run = bench(*["memory", "--objects", "300", "--before", "300"])
    assert run.returncode in {0, 1}, run.stderr
    assert "| Varnish |" in run.stdout
    assert "| nearshelf |" in run.stdout
    assert "memory an object, to Varnish's" in run.stdout


@needs_two_cores
def test_a_purge_is_timed_and_what_it_purged_is_answered_no_more():
    run = bench(*["purge", "--entries", "300", "--seconds", "0.3"])
    assert run.returncode in {0, 1}, run.stderr
    assert "| Varnish, a ban |" in run.stdout
    assert "purge of a tag on 300 entries, ms" in run.stdout
