"""The chunked transfer coding (RFC 9112, 7.1), decoded in time that grows with the bytes, a bounded part of it at a time.

A body may come in chunks of one byte. Twisted's decoder moves what it has left for each of them, and takes a read to its
end whatever that costs all others.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.web.http import _MalformedChunkedDataError
from twisted.web.http_headers import Headers

from resumable.blocks import LARGE, Blocks

#: Twisted's, whose channel catches it.
MalformedChunk = _MalformedChunkedDataError

#: Chunks decoded in a turn of the reactor, on all connections together: some milliseconds.
CHUNKS_PER_TURN = 4096
#: Bytes a line with a chunk's size may have, extensions included, and all trailers together.
LONGEST_LINE = 1024
MOST_TRAILERS = 16 * 1024

#: Bytes asked of the socket at a time: what is read and not decoded lies in memory. Little where chunks are small.
READ_SIZE = 256 * 1024
SMALL_READ_SIZE = 16 * 1024

# Nothing but digits before the extensions, and no control character in them: others may read those differently, and see
# another end of the body (request smuggling). 16 digits are more bytes than there are.
_EXTENSIONS = rb"(?:;[\t !-\[\]-~\x80-\xff]{0,%d})?" % LONGEST_LINE
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})" + _EXTENSIONS + rb"\r\n")
_SIZE_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,16}" + _EXTENSIONS + rb"\r?)?")

# A field as a head may have it: a token, a colon, and neither NUL nor a line's end that only some take for one. (No line
# goes on in the next: RFC 9112, 5.2.)
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\x00\r\n]*\r\n")
_DOUBTFUL = re.compile(rb"[\x00\n]|\r(?!\Z)")


class Turns:
    """The turns of the reactor, shared among all connections that have much to do, such as those that decode chunks."""

    def __init__(self, clock: IReactorTime, each: int = CHUNKS_PER_TURN) -> None:
        """:param each: what may be done in a turn, counted in what is shared (chunks, requests)."""
        self._clock = clock
        self._each = each
        self._waiting: deque[Callable[[], object]] = deque()
        self._due = False
        #: What may still be done in this turn. (It may have begun in a former one: who has to wait once in so many
        #: chunks does not notice, and a timer for each read would be noticed.)
        self.left = each

    def wait(self, go_on: Callable[[], object]) -> None:
        """Have `go_on` called in a later turn, after those who wait already."""
        self._waiting.append(go_on)
        self._see_to_next()

    def _see_to_next(self) -> None:
        if self._waiting and not self._due:
            self._due = True
            self._clock.callLater(0, self._next)

    def _next(self) -> None:
        self._due = False
        self.left = self._each
        try:
            for _ in range(len(self._waiting)):
                if self.left <= 0:
                    break
                self._waiting.popleft()()
        finally:
            self._see_to_next()


class ChunkedDecoder:
    """Decodes a body. What it does not come to in a turn it decodes in the next ones.

    :ivar read_size: bytes that should be asked of the socket at a time.
    :ivar trailers: the fields after the last chunk, as far as they have come.
    :ivar behind: whether bytes wait for the next turn; no more should then be read.
    """

    def __init__(
        self,
        data: Callable[[bytes], object],
        finish: Callable[[bytes], object],
        *,
        turns: Turns,
        stall: Callable[[bool], object],
        go_on: Callable[[], object],
    ) -> None:
        """
        :param data: is given the body, in large pieces where there are any.
        :param finish: is given what followed the body, once the end is reached.
        :param stall: is told when `behind` changes, before anything is handed on.
        :param go_on: is called in a later turn, and has to call `go_on`.
        """
        self._hand_on = data
        self._finish = finish
        self._turns = turns
        self._stall = stall
        self._wake = go_on
        self._data = b""
        self._position = 0
        self._late = bytearray()  # came while we were behind
        self._left = 0  # bytes of the chunk still to come
        self._state: Callable[[], bool | None] = self._size
        self.trailers = Headers()
        self._trailer_bytes = 0
        self._blocks = Blocks()
        self.read_size = READ_SIZE
        self.behind = False

    def dataReceived(self, data: bytes) -> None:
        """Decode, or keep for the next turn if there is still something to do from former ones.

        :raises MalformedChunk: what was sound has been handed on.
        """
        if self.behind:
            self._late += data
            return
        # Between two reads no more is left than a line that has begun.
        self._data = self._data[self._position :] + data if self._position < len(self._data) else data
        self._position = 0
        self._decode()

    def go_on(self) -> None:
        """Decode what had to wait; errors as `dataReceived`."""
        if not self.behind:
            return
        if self._late:
            self._data = self._data[self._position :] + bytes(self._late)
            self._position = 0
            self._late = bytearray()
        self._decode()

    def abandon(self) -> None:
        """Let go of the rest: nobody wants it."""
        self._data, self._position, self._late = b"", 0, bytearray()
        self.behind = False

    def noMoreData(self) -> None:
        """Do nothing: Twisted's channel calls this, and knows itself whether the body has ended."""

    def _decode(self) -> None:
        turns = self._turns
        going: bool | None = True
        malformed: MalformedChunk | None = None
        try:
            while going and turns.left > 0:
                turns.left -= 1
                going = self._state()
        except MalformedChunk as error:
            malformed = error
        ended = going is None
        behind = bool(going) and malformed is None and self._position < len(self._data)
        if behind:
            self.read_size = SMALL_READ_SIZE
            turns.wait(self._wake)
        elif self._position >= len(self._data):
            self._data, self._position = b"", 0
        if behind != self.behind:
            self.behind = behind
            self._stall(behind)
        rest = self._data[self._position :] + bytes(self._late) if ended else b""
        if ended:
            self.abandon()
        blocks = self._blocks
        while blocks:
            self._hand_on(blocks.take())
        if malformed is not None:
            raise malformed
        if ended:
            self._finish(rest)

    # The states: each returns whether to go on with the one that follows, None after the last.

    def _size(self) -> bool:
        """Read a line with the size of a chunk; and what follows it, if it is small and whole."""
        data, position = self._data, self._position
        found = _SIZE.match(data, position)
        if found is None:
            if len(data) - position > LONGEST_LINE or not _SIZE_BEGUN.fullmatch(data, position):
                raise MalformedChunk("a chunk has no valid size")
            return False
        start = found.end()
        if start - position > LONGEST_LINE:
            raise MalformedChunk("the line with a chunk's size is too long")
        size = int(found[1], 16)
        if not size:
            self._position, self._state = start, self._trailer
            return True
        end = start + size
        if size < LARGE and data[end : end + 2] == b"\r\n":  # most of many
            self._blocks.add(data[start:end])
            self._position = end + 2
            return True
        self._position, self._left, self._state = start, size, self._body
        return True

    def _body(self) -> bool:
        data, position = self._data, self._position
        end = min(position + self._left, len(data))
        if end == position:
            return False
        self._left -= end - position
        self._position = end
        # All of it: that is the very object, no copy.
        self._blocks.add(data[position:end])
        if not self._left:
            self._state = self._end_of_chunk
        return True

    def _end_of_chunk(self) -> bool:
        data, position = self._data, self._position
        end = data[position : position + 2]
        if end != b"\r\n":
            if b"\r\n".startswith(end):
                return False
            raise MalformedChunk("a chunk is longer than its size")
        self._position, self._state = position + 2, self._size
        return True

    def _trailer(self) -> bool | None:
        """Read a line after the last chunk: a field, or the empty line that ends all.

        It is read as strictly as those of a head: another reader could see the end elsewhere.
        """
        data, position = self._data, self._position
        end = data.find(b"\r\n", position, position + MOST_TRAILERS + 2)
        if self._trailer_bytes + (len(data) if end < 0 else end) - position > MOST_TRAILERS:
            raise MalformedChunk("there are too many trailers")
        if end < 0:
            if _DOUBTFUL.search(data, position):
                raise MalformedChunk("a trailer is malformed")
            return False
        if end > position and not _TRAILER.fullmatch(data, position, end + 2):
            raise MalformedChunk("a trailer is malformed")
        self._trailer_bytes += end + 2 - position
        self._position = end + 2
        if end == position:
            return None
        name, _, value = data[position:end].partition(b":")
        self.trailers.addRawHeader(name, value.strip(b" \t"))
        return True
