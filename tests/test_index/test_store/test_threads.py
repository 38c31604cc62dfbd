import threading
from concurrent.futures import ThreadPoolExecutor

from kshot.index.store import ExampleHeader, Store
from kshot.records import NewExample
from tests.test_index.test_store.cases import a_job, write


def test_writers_in_many_threads_give_every_batch_its_own_version(store, pool):
    def post(worker):
        batches = range(5)
        return [
            write(store, pool.id, *(NewExample(id=f"{worker}-{b}-{i}", inputs="x") for i in range(10)))
            for b in batches
        ]

    with ThreadPoolExecutor(6) as threads:
        results = [result for results in threads.map(post, range(6)) for result in results]

    assert sorted(result.version for result in results) == list(range(1, 31))
    assert store.get_pool("tickets").version == 30
    seqs = [seq for result in results for seq in result.seqs]
    assert len(set(seqs)) == len(seqs) == store.count_live(pool.id) == 300


def test_two_stores_on_one_database_take_turns(store, pool, store_url):
    def post(writer, name):
        return [write(writer, pool.id, NewExample(id=f"{name}-{i}", inputs="x")).version for i in range(15)]

    with Store(store_url) as replica, ThreadPoolExecutor(2) as threads:
        versions = [*threads.map(post, (store, replica), ("a", "b"))]
    assert sorted(versions[0] + versions[1]) == list(range(1, 31))
    assert len({header.seq for header in store.iterate_headers(pool.id)}) == 30


def test_the_same_example_from_many_threads_is_stored_once(store, pool):
    barrier = threading.Barrier(6)

    def post(_worker):
        barrier.wait()
        return write(store, pool.id, NewExample(id="a", inputs="x")).outcomes[0]

    with ThreadPoolExecutor(6) as threads:
        outcomes = sorted(threads.map(post, range(6)))
    assert outcomes == ["created", *["unchanged"] * 5]


def test_a_reader_sees_whole_batches_while_others_write(store, pool):
    done = threading.Event()

    def post():
        for b in range(30):
            write(store, pool.id, *(NewExample(id=f"{b}-{i}", inputs="x") for i in range(7)))
        done.set()

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(post)
        followed: dict[int, ExampleHeader] = {}
        version = 0
        while not done.is_set():
            changes = store.read_changes(pool.id, version)
            assert len(changes.added) == 7 * (changes.version - version)
            followed |= {header.seq: header for header in changes.added}
            version = changes.version
        writing.result()
    followed |= {header.seq: header for header in store.read_changes(pool.id, version).added}
    assert followed == {header.seq: header for header in store.iterate_headers(pool.id)}


def test_a_job_is_claimed_by_one_thread_only(store):
    for i in range(20):
        store.add_job(a_job(id=f"job-{i}"))
    with ThreadPoolExecutor(5) as threads:
        claimed = [job.id for job in threads.map(lambda _: store.claim_job(), range(20))]
    assert sorted(claimed) == sorted(f"job-{i}" for i in range(20))


def test_a_key_is_reserved_by_one_thread_only(store):
    def reserve(_worker):
        try:
            return store.reserve_idempotency_key("scope", "key", "hash") is None
        except Exception as error:  # noqa: BLE001  # its type is what is asserted
            return type(error).__name__

    with ThreadPoolExecutor(5) as threads:
        results = list(threads.map(reserve, range(5)))
    assert sorted(map(str, results)) == [*["IdempotencyConflict"] * 4, "True"]
