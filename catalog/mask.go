package catalog

import "strings"

const dots = "••••"

// Mask gives the hint by which a person tells values apart: dots, then the last
// characters of the value. It gives away at most 4 characters, and at most one
// in six, so nothing of a value shorter than 12 and nothing of a password. It
// does not tell the length. A mask never passes [Service.Check], so one that
// comes back in a form is not saved over the real value.
func (s *Service) Mask(field, value string) string {
	f, ok := s.Field(field)
	if !ok || f.isPassword() {
		return dots
	}
	show := min(4, len(value)/6)
	if show < 2 {
		return dots
	}
	tail := value[len(value)-show:]
	if !onlyBytes(tail, func(b byte) bool { return b > ' ' && b < 0x7f }) {
		return dots
	}
	return dots + tail
}

// isPassword reports whether the value is one a person chose, so short and telling
// that no part of it may be shown.
func (f *Field) isPassword() bool { return f.Secret && f.Format == Text }

// looksMasked reports whether value is what a form or dashboard shows in place of a
// secret. Asterisks can be part of a real password, so there they count only
// when they are nearly all of it.
func (f *Field) looksMasked(value string) bool {
	if strings.Contains(value, "…") || strings.Contains(value, dots) || f.Secret && f.hidesSecret(value) {
		return true
	}
	if f.isPassword() {
		masking := strings.Count(value, "*") + strings.Count(value, "•")
		return masking >= 3 && len([]rune(value))-masking <= 4
	}
	return strings.Contains(value, "***") || strings.Contains(value, "•")
}
