"""Tokens on disk, cluster by cluster, and the scan of a few clusters for each query token."""

from pathlib import Path
from typing import Any

import faiss as faiss_module
import numpy as np
from numpy.typing import NDArray

from kshot.arrays import Bools, Float32s, Int64s

# The SWIG module's own type hints are incomplete.
faiss: Any = faiss_module
_ROW_BYTES = 8
_COPIED_TOKENS = 65_536
_NOTHING = np.empty(0, np.uint8)


class TokenLists:
    """A memory-mapped file with one list per cluster: its tokens in float16, then the row of each.

    faiss' inverted file over it: products are computed where the tokens lie, without decoding them first.
    Immutable, and safe from any thread; it stays usable after the file has lost its name.

    Parameters
    ----------
    path : Path
        As `write_lists` left it.
    sizes : int64 array, shape (c,)
        Tokens of each list.
    dimension : int
        Of a token.
    """

    def __init__(self, path: Path, sizes: Int64s, dimension: int) -> None:
        # Mapped anew for whoever appends to the lists: the name may be gone by then.
        self.content: NDArray[np.uint8] = np.memmap(path, np.uint8, "r") if sizes.any() else _NOTHING
        self.sizes = sizes
        self.dimension = dimension
        self._quantizer = faiss.IndexFlatIP(dimension)
        self._index = faiss.IndexIVFScalarQuantizer(
            self._quantizer,
            dimension,
            len(sizes),
            faiss.ScalarQuantizer.QT_fp16,
            faiss.METRIC_INNER_PRODUCT,
            False,
        )
        self._index.is_trained = True
        self._index.replace_invlists(_mapped(path, sizes, 2 * dimension), True)
        self._index.ntotal = int(sizes.sum())

    def search(self, queries: Float32s, lists: Int64s, depth: int, eligible: Bools | None) -> Int64s:
        """Return the rows of the tokens nearest to each query token.

        Parameters
        ----------
        queries : float32 array, shape (L, d)
        lists : int64 array, shape (L, p)
            The lists to scan for each query token; -1 for none.
        depth : int
            Tokens wanted for each query token, at least 1.
        eligible : bool array, shape (rows,), or None
            Rows whose tokens count; None: all do.

        Returns
        -------
        int64 array, shape (L, depth)
            A row once for each of its tokens, -1 where there are no more.
        """
        count, probes = lists.shape
        found = np.full((count, depth), -1, np.int64)
        if not count or not probes:
            return found
        queries, lists = np.ascontiguousarray(queries, np.float32), np.ascontiguousarray(lists, np.int64)
        similarities = np.empty((count, depth), np.float32)
        unused = np.zeros(lists.shape, np.float32)
        parameters = faiss.SearchParametersIVF(nprobe=probes)
        if eligible is not None:
            bits = np.packbits(eligible, bitorder="little")
            parameters.sel = selector = faiss.IDSelectorBitmap(len(bits), faiss.swig_ptr(bits))
            # SWIG keeps neither of them alive.
            parameters.kept = (selector, bits)
        # This entry scans in the calling thread; the usual one hands each query to a thread of OpenMP.
        self._index.search_preassigned_c(
            count,
            faiss.swig_ptr(queries),
            depth,
            faiss.swig_ptr(lists),
            faiss.swig_ptr(unused),
            faiss.swig_ptr(similarities),
            faiss.swig_ptr(found),
            False,
            parameters,
        )
        return found


def write_lists(
    path: Path,
    homes: Int64s,
    tokens: NDArray[np.float16],
    rows: Int64s,
    lists: int,
    before: TokenLists | None = None,
) -> Int64s:
    """Write tokens list by list, behind those of an older file if there is one, and return the sizes.

    Parameters
    ----------
    path : Path
    homes : int64 array, shape (t,)
        The list of each token.
    tokens : float16 array, shape (t, d)
        May be a memory map; read in pieces.
    rows : int64 array, shape (t,)
    lists : int
        Number of lists.
    before : TokenLists or None
        Of the same number of lists; stays as it is.
    """
    added = np.bincount(homes, minlength=lists).astype(np.int64)
    order = np.argsort(homes, kind="stable")
    width = 2 * tokens.shape[1]
    old = np.zeros(lists, np.int64) if before is None else before.sizes
    old_bytes = _NOTHING if before is None else before.content
    with path.open("wb") as file:
        first = read = 0
        for size, more in zip(old.tolist(), added.tolist(), strict=True):
            mine = order[first : first + more]
            first += more
            file.write(old_bytes[read : read + size * width].data)
            for start in range(0, more, _COPIED_TOKENS):
                file.write(np.ascontiguousarray(tokens[mine[start : start + _COPIED_TOKENS]]).data)
            read += size * width
            file.write(old_bytes[read : read + size * _ROW_BYTES].data)
            file.write(np.ascontiguousarray(rows[mine], np.int64).data)
            read += size * _ROW_BYTES
    return old + added


def _mapped(path: Path, sizes: Int64s, code_bytes: int) -> Any:
    """Tell faiss where each list lies in the file."""
    lists = faiss.OnDiskInvertedLists()
    lists.nlist, lists.code_size = len(sizes), code_bytes
    lists.filename, lists.read_only = str(path), True
    # It would start threads that read ahead, for every search.
    lists.prefetch_nthread = 0
    lists.lists.resize(len(sizes))
    ends = np.cumsum(sizes * (code_bytes + _ROW_BYTES))
    # faiss::OnDiskOneList: size, capacity, offset.
    places = np.stack([sizes, sizes, ends - sizes * (code_bytes + _ROW_BYTES)], axis=1).astype(np.uint64)
    faiss.memcpy(lists.lists.data(), faiss.swig_ptr(places.view(np.uint8)), places.nbytes)
    lists.totsize = int(ends[-1])
    if lists.totsize:
        lists.do_mmap()
    # The index owns it from here on.
    lists.this.disown()
    return lists
