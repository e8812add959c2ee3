package simulate

import (
	"fmt"
	"math"
)

// A Fit is what a quantity is at a number of entries E: A + B·E, or A·E^B, whichever comes
// nearer to what was measured.
type Fit struct {
	Power   bool
	A, B    float64
	Residue float64 // the largest difference to what was measured, as a share of that
}

// At returns the quantity at a number of entries.
func (f Fit) At(entries float64) float64 {
	if f.Power {
		return f.A * math.Pow(entries, f.B)
	}
	return f.A + f.B*entries
}

// String shows the fit as a formula.
func (f Fit) String() string {
	switch {
	case f.Power:
		return fmt.Sprintf("%.3g E^%.2f", f.A, f.B)
	case math.Abs(f.B*far) < 0.5:
		return fmt.Sprintf("%.4g", f.A)
	}
	return fmt.Sprintf("%.4g + %.3g E", f.A, f.B)
}

// FitTo fits to what was measured, ys, at the sizes xs. What is nothing counts as one.
func FitTo(xs, ys []float64) Fit {
	var logX, logY, weights, ones []float64
	for i, y := range ys {
		y = max(y, 1)
		logX, logY = append(logX, math.Log(xs[i])), append(logY, math.Log(y))
		weights, ones = append(weights, 1/(y*y)), append(ones, 1) // what counts is the share
	}
	line, power := Fit{}, Fit{Power: true}
	line.A, line.B = leastSquares(xs, ys, weights)
	power.A, power.B = leastSquares(logX, logY, ones)
	power.A = math.Exp(power.A)
	for _, f := range []*Fit{&line, &power} {
		for i, y := range ys {
			f.Residue = max(f.Residue, math.Abs(f.At(xs[i])-y)/max(y, 1))
		}
	}
	if power.Residue < line.Residue || line.A < 0 || line.B < 0 { // nothing is less than nothing
		return power
	}
	return line
}

// leastSquares returns the line a + b·x that fits best.
func leastSquares(xs, ys, weights []float64) (a, b float64) {
	var w, x, y, xx, xy float64
	for i := range xs {
		w += weights[i]
		x += weights[i] * xs[i]
		y += weights[i] * ys[i]
		xx += weights[i] * xs[i] * xs[i]
		xy += weights[i] * xs[i] * ys[i]
	}
	if d := w*xx - x*x; d > 0 {
		b = (w*xy - x*y) / d
	}
	return (y - b*x) / w, b
}
