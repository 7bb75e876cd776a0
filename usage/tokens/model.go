package tokens

// MaxModel is how long a model's name is at most, in bytes.
const MaxModel = 128

// OtherModel stands for a model whose name is not one: too long, or with
// characters that no model's name has.
const OtherModel = "other"

// ModelName gives name, or [OtherModel] where a hostile caller or provider made
// it up: longer than [MaxModel], or with anything but letters, digits and
// . _ - : / @ + in it. Empty stays empty.
func ModelName(name string) string {
	if len(name) > MaxModel {
		return OtherModel
	}
	for i := range len(name) {
		if !inModelName(name[i]) {
			return OtherModel
		}
	}
	return name
}

func inModelName(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	switch c {
	case '.', '_', '-', ':', '/', '@', '+':
		return true
	}
	return false
}

// modelText gathers a model's name byte by byte. The last one that ended stays.
type modelText struct {
	text   [2][MaxModel]byte
	length [2]int // past MaxModel: not a name
	now    int    // which of the two is being read
}

func (m *modelText) begin() { m.length[m.now] = 0 }

func (m *modelText) spoil() { m.length[m.now] = MaxModel + 1 }

func (m *modelText) add(c byte) {
	n := m.length[m.now]
	if n >= MaxModel || !inModelName(c) {
		m.spoil()
		return
	}
	m.text[m.now][n] = c
	m.length[m.now] = n + 1
}

func (m *modelText) end() {
	if m.length[m.now] > 0 { // Azure's first event has an empty one
		m.now = 1 - m.now
	}
}

func (m *modelText) String() string {
	last := 1 - m.now
	if m.length[last] > MaxModel {
		return OtherModel
	}
	return string(m.text[last][:m.length[last]])
}
