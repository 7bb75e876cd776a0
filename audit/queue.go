package audit

// queue holds events that wait for the disk, in order of arrival, in pieces of
// what one transaction writes: taking from a long queue moves nothing.
type queue struct {
	pieces [][]Event // none is empty
	length int
	spare  []Event // a piece that was written, for the next one
}

func (q *queue) push(e Event) {
	last := len(q.pieces) - 1
	if last < 0 || len(q.pieces[last]) == batchSize {
		q.pieces, q.spare = append(q.pieces, q.spare), nil
		last++
	}
	q.pieces[last] = append(q.pieces[last], e)
	q.length++
}

// first gives the oldest events, at most batchSize of them and none when the
// queue is empty. They stay until drop.
func (q *queue) first() []Event {
	if len(q.pieces) == 0 {
		return nil
	}
	return q.pieces[0]
}

// drop removes the oldest n events, which the last call of first gave.
func (q *queue) drop(n int) {
	if n == 0 {
		return
	}
	q.length -= n
	first := q.pieces[0]
	if rest := first[n:]; len(rest) > 0 { // came after the call of first
		q.pieces[0] = append(q.spare, rest...)
		clear(first)
		q.spare = first[:0]
		return
	}
	clear(first)
	q.spare = first[:0]
	q.pieces[0] = nil
	if q.pieces = q.pieces[1:]; len(q.pieces) == 0 {
		q.pieces = nil
	}
}
