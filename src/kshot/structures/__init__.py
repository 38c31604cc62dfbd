"""What texts are made of: word sequences, subtrees of sentences, pieces of programs.

Text in, lists of hashable structures out; parsers that are extras are imported only when they are used.
"""

from kshot.structures.dependencies import dependency_subtrees
from kshot.structures.kinds import StructureKind, reader_of, structures_of
from kshot.structures.syntax_trees import python_bigrams
from kshot.structures.word_sequences import ngrams, words

__all__ = [
    "StructureKind",
    "dependency_subtrees",
    "ngrams",
    "python_bigrams",
    "reader_of",
    "structures_of",
    "words",
]
